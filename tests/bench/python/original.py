"""The original collector's way: requests, json, and Devo's own sender, a send for each record.

original.py BASE_URL FROM TO SPAN RELAY_PORT CERTS, times in seconds since 1970.
"""

import json
import sys
from datetime import datetime, timezone
from urllib.parse import urljoin

import requests
from devo.sender import Sender, SenderConfigSSL

HOST = "bench"
TAG = "cloud.office365.reporting.messagetrace"


def main():
    base, start, end, span, port, certs = sys.argv[1:]
    start, end, span = int(start), int(end), int(span)
    sender = Sender(
        SenderConfigSSL(
            address=("localhost", int(port)),
            chain=f"{certs}/chain.crt",
            cert=f"{certs}/collector.crt",
            key=f"{certs}/collector.key",
        )
    )
    session = requests.Session()
    session.trust_env = False
    session.verify = f"{certs}/chain.crt"
    session.headers["Accept"] = "application/json"
    while start < end:
        collect(session, sender, base, start, min(start + span, end))
        start += span
    sender.close()


def collect(session, sender, base, start, end):
    """Sends the records of one window."""
    pulled = datetime.now(timezone.utc)
    pulling_id = str(int(pulled.timestamp() * 1000))
    date = pulled.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    url = f"{base}MessageTrace?$filter=StartDate eq {instant(start)} and EndDate eq {instant(end)}"
    while url:
        response = session.get(url, timeout=600)
        response.raise_for_status()
        page = response.json()
        for record in page["value"]:
            record["@devo_pulling_id"] = pulling_id
            sender.send(TAG, json.dumps(record), date=date, hostname=HOST)
        link = page.get("odata.nextLink")
        url = link and urljoin(url, link)


def instant(time):
    return datetime.fromtimestamp(time, timezone.utc).strftime("datetime'%Y-%m-%dT%H:%M:%SZ'")


main()
