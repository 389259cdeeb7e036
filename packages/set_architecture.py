"""Names another architecture in an image that `docker save` wrote: set_architecture.py ARCH < FROM > TO.

Docker's classic builder takes its own architecture for that of whatever it builds, and an engine refuses an image of a wrong one.
"""

import hashlib
import io
import json
import sys
import tarfile

architecture = sys.argv[1]
with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as saved, tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as changed:

    def add(name, content):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        changed.addfile(info, io.BytesIO(content))

    (image,) = json.load(saved.extractfile("manifest.json"))
    config = json.load(saved.extractfile(image["Config"]))
    config["architecture"] = architecture
    config = json.dumps(config).encode()
    image["Config"] = hashlib.sha256(config).hexdigest() + ".json"
    for layer in image["Layers"]:
        add(layer, saved.extractfile(layer).read())
    add(image["Config"], config)
    add("manifest.json", json.dumps([image]).encode())
