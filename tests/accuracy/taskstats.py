"""What the kernel says of each task at its end, over netlink (taskstats, CONFIG_TASKSTATS), until it is interrupted.

usage: python3 taskstats.py PREFIX

Says `listening` when it is; on SIGINT prints a JSON object: for each name that begins with the prefix what its tasks have
done together, and under `lost` how often the socket was full, which is 0 where nothing is missing. Needs root.
"""
import errno
import json
import os
import signal
import socket
import struct
import sys

NETLINK_GENERIC, GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 16, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 1, 2
TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK = 1, 3
TASKSTATS_TYPE_STATS, TASKSTATS_TYPE_AGGR_PID = 3, 4
SO_RCVBUFFORCE = 33  # Python has no name for it.
NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 1, 4, 2
# Where struct taskstats has what we want. It only ever grows at its end; ac_tgid came with version 12.
AC_COMM, AC_PID, READ_CHAR, AC_TGID = 80, 128, 216, 368


def attributes(data):
    """Type and content of each attribute."""
    while len(data) >= 4:
        size, kind = struct.unpack_from("HH", data)
        yield kind & 0x3FFF, data[4:size]
        data = data[(size + 3) & ~3:]


def ask(sock, family, command, kind, text):
    """Sends a request of one text, and returns the attributes of the answer; of an acknowledgement, none."""
    text = text.encode() + b"\0"
    attribute = struct.pack("HH", 4 + len(text), kind) + text
    attribute += bytes(-len(attribute) % 4)
    flags = NLM_F_REQUEST | (NLM_F_ACK if command == TASKSTATS_CMD_GET else 0)
    sock.send(struct.pack("IHHIIBBH", 20 + len(attribute), family, flags, 0, 0, command, 1, 0) + attribute)
    answer = sock.recv(65536)
    if struct.unpack_from("H", answer, 4)[0] == NLMSG_ERROR:
        code = -struct.unpack_from("i", answer, 16)[0]
        if code:
            raise OSError(code, os.strerror(code))
        return {}
    return dict(attributes(answer[20:]))


def main(prefix):
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    family = ask(sock, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "TASKSTATS")[CTRL_ATTR_FAMILY_ID]
    family = struct.unpack("H", family[:2])[0]
    with open("/sys/devices/system/cpu/possible") as processors:
        ask(sock, family, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, processors.read().strip())
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    print("listening", flush=True)
    seen, processes, lost = {}, {}, 0
    # What was told before the signal is read: the socket is empty when a quarter of a second brings nothing.
    sock.settimeout(0.25)
    while True:
        try:
            message = sock.recv(65536)
        except socket.timeout:
            if stopped:
                break
            continue
        except OSError as failure:
            if failure.errno != errno.ENOBUFS:
                raise
            lost += 1
            continue
        for kind, nested in attributes(message[20:]):
            stats = dict(attributes(nested)).get(TASKSTATS_TYPE_STATS) if kind == TASKSTATS_TYPE_AGGR_PID else None
            if stats is None:
                continue
            name = stats[AC_COMM:AC_COMM + 32].split(b"\0")[0].decode(errors="replace")
            if not name.startswith(prefix):
                continue
            numbers = struct.unpack_from("QQQQ", stats, READ_CHAR)
            of_name = seen.setdefault(name, {})
            for word, number in zip(("bytes read", "bytes written", "reads", "writes"), numbers):
                of_name[word] = of_name.get(word, 0) + number
            version = struct.unpack_from("H", stats)[0]
            process = struct.unpack_from("I", stats, AC_TGID if version >= 12 else AC_PID)[0]
            processes.setdefault(name, set()).add(process)
    for name, of_name in seen.items():
        of_name["processes"] = len(processes[name])
    print(json.dumps(seen | {"lost": lost}), flush=True)


main(sys.argv[1])
