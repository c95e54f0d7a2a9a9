"""What every golden script shares: seeded inputs, the deterministic safetensors writer, the fixture folder.

Reference values are computed in float64 where the reference allows it and stored as float32, so that they are the truth to
the last stored bit and not one kernel's rounding. `reference_float32_error` in a file's metadata is how far the same
reference, run in float32, is from what is stored: the scale on which a tolerance is to be judged.
"""
import importlib.metadata
import json
import pathlib
import struct
import zlib

import numpy as np
import torch

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "Tests" / "Fixtures"
BASE_MODEL = REPOSITORY / "Models" / "emoji-sd3-tiny"
SEED = 20261124
DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64", np.dtype(np.int32): "I32", np.dtype(np.int64): "I64",
          np.dtype(np.uint8): "U8"}


def rng(name: str) -> np.random.Generator:
    """A generator of its own for each name: a case added later moves no other case's numbers."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def normal(name: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> torch.Tensor:
    """Seeded normals, rounded to float32, as float64: what is stored is exactly what the reference is given."""
    values = rng(name).standard_normal(shape) * scale + offset
    return torch.from_numpy(np.asarray(values, dtype=np.float32).astype(np.float64))


def versions(*packages: str) -> str:
    return " ".join(f"{package}={importlib.metadata.version(package)}" for package in ("torch", *packages))


def to_numpy(value) -> np.ndarray:
    """A C-ordered array as it is stored: floats become float32, integers stay."""
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return np.ascontiguousarray(array.astype(np.float32) if array.dtype.kind == "f" else array).reshape(array.shape)


def save_tensors(path: pathlib.Path, tensors: dict, **metadata) -> None:
    """Writes a safetensors file whose bytes depend on nothing but the values (the library orders metadata at random)."""
    arrays = {name: to_numpy(tensors[name]) for name in sorted(tensors)}
    header, offset = {"__metadata__": {key: str(metadata[key]) for key in sorted(metadata)}}, 0
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{path.name}: {name} is not finite")
        header[name] = {"dtype": DTYPES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())
    print(f"{path.relative_to(FIXTURES)}: {len(arrays)} tensors, {path.stat().st_size} bytes")


def save_json(path: pathlib.Path, document, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, **{"indent": 1, **options}) + "\n")
    print(f"{path.relative_to(FIXTURES)}: {path.stat().st_size} bytes")


def randomize(module: torch.nn.Module, name: str) -> None:
    """Gives every parameter seeded float32 values: matrices keep the activations' scale, norm weights lie around 1,
    biases are not zero. A weight that is 1 or 0 would hide a missing multiplication."""
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if parameter.ndim >= 2 and "embed" not in key.split(".")[-1]:
                scale, offset = 0.8 / np.sqrt(parameter[0].numel()), 0.0
            elif key.endswith("weight") or "gamma" in key or "lambda" in key:
                scale, offset = 0.3, 1.0
            else:
                scale, offset = 0.2, 0.0
            parameter.copy_(normal(f"{name}/{key}", *parameter.shape, scale=scale, offset=offset))


def float32_error(exact: dict, approximate: dict) -> str:
    """The largest |float32 - float64| over all tensors, in units of max(1, the tensor's largest value), as MODEL_TOLERANCE is."""
    worst = max(
        (float((approximate[key].double() - exact[key].double()).abs().max() / exact[key].double().abs().max().clamp_min(1)), key)
        for key in exact if exact[key].is_floating_point())
    return f"{worst[0]:.1e} * max(1, largest |value| of the tensor), at {worst[1]}"


MODEL_TOLERANCE = "5e-5 * max(1, largest |value| of the tensor)"
