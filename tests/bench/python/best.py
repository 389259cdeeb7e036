"""The best that a Python programmer could do: one connection each way, orjson, and lines joined to large writes.

best.py BASE_URL FROM TO SPAN RELAY_PORT CERTS, times in seconds since 1970.
"""

import http.client
import socket
import ssl
import sys
import zlib
from datetime import datetime, timezone
from urllib.parse import quote, urljoin, urlsplit

import orjson

CHUNK = 64 << 10


def main():
    base, start, end, span, port, certs = sys.argv[1:]
    start, end, span = int(start), int(end), int(span)
    base = urlsplit(base)
    context = ssl.create_default_context(cafile=f"{certs}/chain.crt")
    service = http.client.HTTPSConnection(base.hostname, base.port, timeout=600, context=context)
    context = ssl.create_default_context(cafile=f"{certs}/chain.crt")
    context.load_cert_chain(f"{certs}/collector.crt", f"{certs}/collector.key")
    relay = context.wrap_socket(socket.create_connection(("localhost", int(port))), server_hostname="localhost")
    while start < end:
        collect(service, relay, base.path, start, min(start + span, end))
        start += span
    # close_notify, and the relay's answer.
    relay.unwrap().close()


def collect(service, relay, root, start, end):
    """Sends the records of one window."""
    pulled = datetime.now(timezone.utc)
    date = pulled.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    prefix = f"<14>{date} bench cloud.office365.reporting.messagetrace: ".encode()
    pulling_id = str(int(pulled.timestamp() * 1000))
    query = quote(f"StartDate eq {instant(start)} and EndDate eq {instant(end)}")
    url = f"{root}MessageTrace?$filter={query}"
    while url:
        page = orjson.loads(get(service, url))
        parts, size = [], 0
        for record in page["value"]:
            record["@devo_pulling_id"] = pulling_id
            line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
            parts.append(line)
            size += len(line) + len(prefix)
            if size >= CHUNK:
                relay.sendall(prefix + prefix.join(parts))
                parts, size = [], 0
        if parts:
            relay.sendall(prefix + prefix.join(parts))
        link = page.get("odata.nextLink")
        url = link and urljoin(url, link)


def get(service, url):
    service.request("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "gzip"})
    response = service.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"the service answered {response.status}")
    if response.headers.get("Content-Encoding") == "gzip":
        return zlib.decompress(body, wbits=31)
    return body


def instant(time):
    return datetime.fromtimestamp(time, timezone.utc).strftime("datetime'%Y-%m-%dT%H:%M:%SZ'")


main()
