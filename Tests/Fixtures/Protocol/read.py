"""Reads one committed message with nothing but the standard library, as docs/protocol.md specifies it."""
import json, struct, sys

raw = open(sys.argv[1], "rb").read()
magic, version, kind, request, deadline, flags = struct.unpack("<4sHHQII", raw[:24])
assert magic == b"ADVG"
print(f"version {version} kind {kind} request {request:#x} deadline {deadline} flags {flags}")
(length,) = struct.unpack("<Q", raw[24:32])
assert (8 + length) % 64 == 0
header = json.loads(raw[32 : 32 + length])
data = raw[32 + length :]
metadata = header.pop("__metadata__")
message = json.loads(metadata["message"])
print("run", metadata["run"])
print(f"group {message['group']['epoch']}/{message['group']['index']} worker {message['worker']}")
for name in sorted(header):
    entry = header[name]
    begin, end = entry["data_offsets"]
    code = {"F32": "f", "I32": "i"}[entry["dtype"]]
    values = struct.unpack(f"<{(end - begin) // 4}{code}", data[begin:end])
    print(name, entry["dtype"], entry["shape"], "first", values[0], "last", values[-1])
