"""A reward of one's own, here how red an image is: reward.py [ENDPOINT [KEYS]]"""
import json, struct, sys
import numpy, zmq  # pip install pyzmq safetensors numpy
from safetensors.numpy import load, save


def reward(images, prompt):
    """U8 [members, H, W, 3] -> how much each place of each image earns, F32 [members, rows, columns]."""
    red, green, blue = numpy.moveaxis(images.astype(numpy.float32) / 255, 3, 0)
    return red - (green + blue) / 2


socket = zmq.Context.instance().socket(zmq.ROUTER)
if len(sys.argv) > 2:  # the folder of `advgrpo keygen`, of which reward.key, reward.pub and server.pub are needed
    from zmq.auth.thread import ThreadAuthenticator
    own, public, servers = (open(f"{sys.argv[2]}/{name}", "rb").read().strip()
                            for name in ("reward.key", "reward.pub", "server.pub"))
    class Guard:
        def callback(self, domain, key): return key == servers
    guard = ThreadAuthenticator()
    guard.start()
    guard.configure_curve_callback("*", Guard())  # nobody but the reward server asks
    socket.curve_server, socket.curve_secretkey, socket.curve_publickey = True, own, public
socket.bind(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7001")
print("ready", flush=True)
while True:
    *sender, envelope, header, data = socket.recv_multipart()
    _, version, kind, request, _, _ = struct.unpack("<4sHHQII", envelope)
    fields = json.loads(json.loads(header[8:])["__metadata__"]["message"])
    if kind == 33:  # rewardRequest, answered with rewards
        places = reward(load(header + data)["images"], fields["prompt"])
        kind, answer, tensors = 34, {"group": fields["group"]}, {"values": places.mean((1, 2))}
        if fields["wantsMaps"]:  # at most 256 x 256 places
            step = -(-max(places.shape[1:]) // 256)
            tensors["maps"] = numpy.ascontiguousarray(places[:, ::step, ::step])
    else:
        kind, answer, tensors = 26, {"code": "wrongServer", "message": f"a reward process does not answer {kind}"}, {}
    file = save(tensors, {"message": json.dumps(answer)})
    length = 8 + int.from_bytes(file[:8], "little")
    envelope = struct.pack("<4sHHQII", b"ADVG", version, kind, request, 0, 1)
    socket.send_multipart([*sender, envelope, file[:length], file[length:]])
