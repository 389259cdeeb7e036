"""A relay of Python's `ssl`, as many write one: it ends a connection without close_notify.

relay.py PORT FILE: in a folder with server.crt, server.key and chain.crt.
"""

import os
import socket
import ssl
import sys
import threading

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="chain.crt")
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain("server.crt", "server.key")

lines = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
whole_lines = threading.Lock()


def serve(connection):
    rest = b""
    try:
        with context.wrap_socket(connection, server_side=True) as peer:
            while data := peer.recv(65536):
                written, _, rest = (rest + data).rpartition(b"\n")
                if written:
                    with whole_lines:
                        os.write(lines, written + b"\n")
    except OSError as error:
        print(error, file=sys.stderr, flush=True)


with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128) as server:
    while True:
        accepted, _ = server.accept()
        threading.Thread(target=serve, args=(accepted,), daemon=True).start()
