"""Peers that do not behave, all at once, until they are killed: IDENTITY IDENTITY HOST PORT READY-FILE."""
import hashlib
import os
import socket
import sys
import threading
import time

from h2 import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, RESET, SETTINGS, WINDOW, connect, fields, frame, read_frame, request

PACK = ("content-type", "application/vnd.autonomy.pack.v1")
NOBODY = "/v1/segments/blake3:" + "ab" * 32


def hangs_up(stream):
    """Reads until the other end has had enough, so that what it sends does not fill its buffers."""
    def read():
        try:
            while True:
                read_frame(stream)
        except (OSError, EOFError):
            pass
    threading.Thread(target=read, daemon=True).start()


def garbage(_, address):
    stream = socket.create_connection(address)
    stream.sendall(os.urandom(4096))


def half_a_segment(identity, address):
    """A pack that announces 40,000 bytes, sends half of them, and then nothing."""
    stream = connect(identity, address)
    hangs_up(stream)
    head = hashlib.sha256(b"x").digest() + (40_000).to_bytes(4, "little")
    stream.sendall(frame(HEADERS, END_HEADERS, 1, request("POST", "/v1/packs", [PACK])))
    stream.sendall(frame(DATA, 0, 1, head + bytes(10_000)) + frame(DATA, 0, 1, bytes(10_000)))
    return stream


def slow_headers(identity, address):
    """The first half of a request, for ever."""
    stream = connect(identity, address)
    stream.sendall(frame(HEADERS, END_STREAM, 1, request("GET", "/v1/health")[:20]))
    return stream


def wrong_hash(identity, address):
    """A segment whose bytes are not what its name says: answered, and the connection stays."""
    stream = connect(identity, address)
    stream.sendall(frame(HEADERS, END_HEADERS, 1, request("PUT", NOBODY)) + frame(DATA, END_STREAM, 1, b"nothing of the kind"))
    while True:
        kind, _, number, _ = read_frame(stream)
        if (kind, number) == (HEADERS, 1):
            return stream


def endless_body(identity, address):
    """A segment that does not end."""
    stream = connect(identity, address)
    # The windows of stream and connection are below the cap until the other end has widened both, and knows that that is known.
    told = set()
    while not {SETTINGS, WINDOW} <= told:
        told.add(read_frame(stream)[0])
    stream.sendall(frame(SETTINGS, ACK, 0) + frame(HEADERS, END_HEADERS, 1, request("PUT", NOBODY)))
    for _ in range(5):
        stream.sendall(frame(DATA, 0, 1, bytes(16_384)))
    while True:
        kind, _, number, _ = read_frame(stream)
        if (kind, number) == (HEADERS, 1):
            return stream


def streams(identity, address, is_reset):
    """10,000 requests at once, or as many that are taken back at once."""
    stream = connect(identity, address)
    hangs_up(stream)
    asked = request("GET", "/v1/health")
    for number in range(1, 20_000, 2):
        burst = frame(HEADERS, END_HEADERS | END_STREAM, number, asked)
        stream.sendall(burst + frame(RESET, 0, number, (8).to_bytes(4, "big")) if is_reset else burst)


def again(what, *arguments):
    while True:
        try:
            what(*arguments)
        except (OSError, EOFError):
            pass
        time.sleep(0.05)


def main():
    one, other, host, port, ready = sys.argv[1:]
    address = (host, int(port))
    held = [half_a_segment(one, address), slow_headers(one, address), wrong_hash(one, address)]
    garbage(one, address)
    held.append(endless_body(one, address))
    for is_reset in (False, True):
        threading.Thread(target=again, args=(streams, other, address, is_reset), daemon=True).start()
    threading.Thread(target=again, args=(garbage, one, address), daemon=True).start()
    with open(ready + ".new", "w") as told:
        told.write("all stand\n")
    os.rename(ready + ".new", ready)
    while held:
        time.sleep(1)


main()
