import json, struct, sys
import zmq  # pip install pyzmq safetensors numpy
from safetensors.numpy import load, save

socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555")
file = save({}, {"message": json.dumps({})})  # a healthRequest has no fields and no tensors
length = 8 + int.from_bytes(file[:8], "little")
envelope = struct.pack("<4sHHQII", b"ADVG", 8, 20, 1, 5000, 0)  # version 8, kind 20, request 1, 5 s
socket.send_multipart([envelope, file[:length], file[length:]])
if not socket.poll(5000):
    sys.exit("no answer within 5 s")
frames = socket.recv_multipart()
header = json.loads(frames[-2][8:])["__metadata__"]
print(json.dumps(json.loads(header["message"]), indent=2))
tensors = load(frames[-2] + frames[-1])  # empty here; scores would have "rewards"
