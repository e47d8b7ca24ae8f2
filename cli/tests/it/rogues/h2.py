"""HTTP/2 by hand over mutual TLS, for peers that do not behave: frames in, frames out, no state machine that keeps to the rules."""
import socket
import ssl
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def fields(pairs):
    """Headers without compression."""
    text = lambda value: bytes([len(value)]) + value
    return b"".join(b"\0" + text(name.encode()) + text(value.encode()) for name, value in pairs)


def request(method, path, more=()):
    return fields([(":method", method), (":scheme", "https"), (":authority", "node-b"), (":path", path), *more])


def hello(window=1 << 30):
    """Settings that let the other end send as much as it likes."""
    settings = struct.pack(">HI", 4, window)
    return frame(SETTINGS, 0, 0, settings) + frame(WINDOW, 0, 0, struct.pack(">I", window))


def context(identity, is_server):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.load_cert_chain(f"{identity}/node.crt", f"{identity}/node.key")
    made.set_alpn_protocols(["h2"])
    return made


def connect(identity, address):
    stream = context(identity, False).wrap_socket(socket.create_connection(address))
    stream.sendall(PREFACE + hello())
    return stream


def read_exactly(stream, length):
    held = b""
    while len(held) < length:
        more = stream.recv(length - len(held))
        if not more:
            raise EOFError
        held += more
    return held


def read_frame(stream):
    head = read_exactly(stream, 9)
    return head[3], head[4], struct.unpack(">I", head[5:])[0], read_exactly(stream, int.from_bytes(head[:3], "big"))
