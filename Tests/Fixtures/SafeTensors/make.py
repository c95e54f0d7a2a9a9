"""Writes the safetensors fixtures with the reference implementation (safetensors 0.8.0, numpy; bf16 through torch).

Run:  python make.py   (needs torch and safetensors; only to regenerate)
"""
import json, os
import torch
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
values = torch.tensor([[0.0, -1.5, 3.25], [65504.0, 6e-8, -0.333251953125]])
tensors = {
    "a.float32": values,
    "b.float16": values.half(),
    "c.bfloat16": values.bfloat16(),
    "d.float64": values.double(),
    "e.int64": torch.tensor([-1, 1 << 40]),
    "f.uint8": torch.arange(5, dtype=torch.uint8),
    "g.bool": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 7),
    "nämë \"quoted\"\n": torch.tensor([1], dtype=torch.int32),
}
save_file(tensors, f"{here}/reference.safetensors", metadata={"format": "pt", "note": "é \\ \" \n"})
sharded = f"{here}/sharded"
os.makedirs(sharded, exist_ok=True)
save_file({"x": torch.ones(2)}, f"{sharded}/model-00001-of-00002.safetensors", metadata={"format": "pt"})
save_file({"y": torch.full((3,), 2.0)}, f"{sharded}/model-00002-of-00002.safetensors", metadata={"format": "pt"})
json.dump(
    {"metadata": {"total_size": 20, "nested": [1.5e3, {"deep": None}]},
     "weight_map": {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}},
    open(f"{sharded}/model.safetensors.index.json", "w"), indent=2)
