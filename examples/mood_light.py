"""A light with the colour of a room's mood, on a microcontroller that has MQTT and nothing else.

It runs on an ESP32 with MicroPython and a NeoPixel on pin 13: connect to the network in boot.py,
set BROKER and ROOM, and copy this file to the board as main.py. It needs no library. On a computer
it prints the colours:

  python3 examples/mood_light.py BROKER PORT ROOM
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# MicroPython has no module `typing`.

import json
import socket
import struct
import sys
import time

BROKER, PORT, ROOM = "192.168.1.10", 1883, "kitchen"

DARK = (0, 0, 0)
COLOURS = {
    "angry": (255, 0, 0),
    "disgusted": (128, 0, 128),
    "fearful": (255, 0, 255),
    "happy": (255, 200, 0),
    "neutral": (0, 255, 60),
    "sad": (0, 60, 255),
    "surprised": (255, 80, 0),
}
"""Red, green and blue by label. Others are dark."""

ALIVE_S = 15
"""Longest wait for a byte before the broker is asked whether it is there."""
QUIET_S = 120
"""Time without a message after which nothing is known: the server publishes every 10 s."""


def colour(summary):
    """Return the colour of a message: brighter with more activation, dark without speech."""
    red, green, blue = COLOURS.get(summary.get("top"), DARK)
    light = 0.1 + 0.9 * summary.get("activation", 0.5)
    return int(red * light), int(green * light), int(blue * light)


def text(value):
    """Return a string as MQTT sends it: its length in two bytes, then UTF-8."""
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def exactly(connection, size):
    """Return `size` bytes. Raises OSError at the end of the connection or after ALIVE_S."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("the broker closed the connection")
        data += piece
    return data


def rest(connection):
    """Return the body of a packet whose first byte was read (MQTT 3.1.1, section 2.2.3)."""
    size, shift = 0, 0
    while True:
        digit = exactly(connection, 1)[0]
        size |= (digit & 127) << shift
        shift += 7
        if digit < 128:
            return exactly(connection, size)


def messages(host, port, topic):
    """Yield the payloads of a topic, and None when nothing came for QUIET_S. Raises OSError."""
    connection = socket.socket()
    try:
        connection.settimeout(ALIVE_S)
        connection.connect(socket.getaddrinfo(host, port)[0][-1])
        # CONNECT: a clean session without a name, and no keep alive, because the pings are ours.
        body = text("MQTT") + b"\x04\x02\x00\x00" + text("")
        connection.send(bytes([0x10, len(body)]) + body)
        if exactly(connection, 1) != b"\x20" or rest(connection)[1]:
            raise OSError("the broker refused the connection")
        body = b"\x00\x01" + text(topic) + b"\x00"  # SUBSCRIBE, QoS 0
        connection.send(bytes([0x82, len(body)]) + body)
        asked, quiet_s = False, 0
        while True:
            try:
                kind = exactly(connection, 1)[0]
            except OSError:
                if asked:
                    raise  # no answer to the question
                connection.send(b"\xc0\x00")  # PINGREQ
                asked, quiet_s = True, quiet_s + ALIVE_S
                if quiet_s >= QUIET_S:
                    yield None
                continue
            asked, body = False, rest(connection)
            if kind & 0xF0 == 0x30:  # PUBLISH
                quiet_s = 0
                yield body[2 + struct.unpack("!H", body[:2])[0] :]
    finally:
        connection.close()


def led():
    """Return a function that shows a colour: on the NeoPixel, or in the terminal."""
    try:
        import machine
        import neopixel
    except ImportError:
        return print
    pixel = neopixel.NeoPixel(machine.Pin(13), 1)

    def show(rgb):
        pixel[0] = rgb
        pixel.write()

    return show


def main(host, port, room):
    """Show the room for ever. The light is dark whenever the mood is not known."""
    show = led()
    topic = "emotide/group/room%3A" + room + "/summary"
    while True:
        try:
            for payload in messages(host, port, topic):
                show(colour(json.loads(payload) if payload else {}))
        except OSError:
            show(DARK)
            time.sleep(2)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        BROKER, PORT, ROOM = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    main(BROKER, PORT, ROOM)
