"""A peer with the certificate of node-b that answers every set with what is in a file: IDENTITY PORT-FILE ANSWER-FILE."""
import json
import os
import socket
import sys

from h2 import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, context, fields, frame, hello, read_exactly, read_frame

HEALTH = {
    "node": "node-b", "fleet": "harbor", "draining": False,
    "quota": {"bytesPerSecond": 0, "burstBytes": 0, "availableBytes": 0},
}


def serve(stream, answer):
    read_exactly(stream, 24)
    stream.sendall(hello())
    asked = 0
    while True:
        kind, flags, number, payload = read_frame(stream)
        if kind == SETTINGS and not flags & ACK:
            stream.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            stream.sendall(frame(PING, ACK, 0, payload))
        elif kind in (HEADERS, DATA) and flags & END_STREAM:
            # The first request on a connection asks for the health, the others are about a set.
            body = open(answer, "rb").read() if asked else json.dumps(HEALTH).encode()
            asked += 1
            stream.sendall(frame(HEADERS, END_HEADERS, number, fields([(":status", "200")])) + frame(DATA, END_STREAM, number, body))


def main():
    identity, port_file, answer = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0))
    with open(port_file + ".new", "w") as told:
        told.write(f"127.0.0.1:{listener.getsockname()[1]}")
    os.rename(port_file + ".new", port_file)
    tls = context(identity, True)
    while True:
        try:
            serve(tls.wrap_socket(listener.accept()[0], server_side=True), answer)
        except (OSError, EOFError):
            pass


main()
