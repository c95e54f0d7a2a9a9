"""Adapters of mmdit-a as the libraries that train them write them, and what the adapted model computes.

Twenty random configurations of PEFT's LoRA (ranks and alphas with patterns, rsLoRA, lists and expressions of targets, float32, float16,
bfloat16): folders of PEFT and files of diffusers, with and without `lora_adapter_metadata`; and files of kohya's trainer in SD3's own
names. `adapters/NAME/` is the adapter, `adapters/expected.safetensors` holds NAME -> velocity for mmdit-a's inputs. The expectation is
computed by the library that reads the form: PEFT, diffusers, and for kohya's names diffusers' own conversion of SD3's checkpoint.
"""
import json
import random
import shutil

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from common import FIXTURES, MODEL_TOLERANCE, SEED, normal, save_json, save_tensors, versions

FOLDER = FIXTURES / "adapters"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LAYERS = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.to_add_out", "attn2.to_q",
          "norm1.linear", "norm1_context.linear", "ff.net.2", "ff_context.net.0.proj", "norm_out.linear", "proj_out", "pos_embed.proj",
          "context_embedder", "timestep_embedder.linear_1", "text_embedder.linear_2"]
EXPRESSIONS = [r".*\.attn\.(to_q|to_k)", r"transformer_blocks\.1\..*(to_v|add_q_proj)", r".*0\.(attn2?|ff)\.(to_q|to_out\.0|net\.2)"]
PATTERNS = ["attn.to_q", "^transformer_blocks.0.attn.to_q", r"transformer_blocks\.1\..*", r".*\.(to_q|to_k)", "to_v", r"[a-z_]+\.\d\.attn2?\.to_[qk]",
            "linear", "norm1.linear", "^proj_out", "proj"]


def base():
    return SD3Transformer2DModel.from_pretrained(FIXTURES / "mmdit-a", torch_dtype=torch.float32)


def velocity(model):
    inputs = load_file(FIXTURES / "mmdit-a" / "golden.safetensors")
    with torch.no_grad():
        return model(hidden_states=inputs["input/latents"], timestep=inputs["input/timestep"], encoder_hidden_states=inputs["input/text"],
                     pooled_projections=inputs["input/pooled"], return_dict=False)[0]


def configuration(draw):
    """What a user might ask PEFT for; patterns are sorted, as PEFT's file sorts them, for the first that matches counts."""
    options = dict(r=draw.randint(1, 3), lora_alpha=draw.choice([1, 2, 4, 5]), use_rslora=draw.random() < 0.4)
    options["target_modules"] = draw.choice(EXPRESSIONS) if draw.random() < 0.3 else sorted(draw.sample(LAYERS, draw.randint(1, 4)))
    if draw.random() < 0.6:
        options["rank_pattern"] = {key: draw.randint(1, 4) for key in sorted(draw.sample(PATTERNS, draw.randint(1, 3)))}
    if draw.random() < 0.6:
        options["alpha_pattern"] = {key: draw.choice([1, 2, 3, 0.5]) for key in sorted(draw.sample(PATTERNS, draw.randint(1, 3)))}
    return options


def adapted(name, options, dtype):
    model = get_peft_model(base(), LoraConfig(**options))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                values = normal(f"adapters/{name}/{key}", *parameter.shape, scale=0.3 if "lora_A" in key else 0.2)
                parameter.copy_(values.to(dtype))
    return model


def stored(path, dtype):
    """The file in a data type, with one entry of metadata (the library orders several at random)."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    key = "lora_adapter_metadata" if "lora_adapter_metadata" in metadata else "format"
    path.write_bytes(save({name: value.to(dtype) for name, value in load_file(path).items()}, {key: metadata[key]}))


def make_peft(name, options, dtype):
    folder = FOLDER / name
    adapted(name, options, dtype).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    stored(folder / "adapter_model.safetensors", dtype)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "mmdit-a"  # PEFT writes this machine's path
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # a set in PEFT
    save_json(folder / "adapter_config.json", config, sort_keys=True, indent=2)
    return velocity(PeftModel.from_pretrained(base(), folder).eval())


def make_diffusers(name, options, dtype, with_metadata):
    folder = FOLDER / name
    model = adapted(name, options, dtype)
    state = {key.removeprefix("base_model.model."): value.contiguous() for key, value in get_peft_model_state_dict(model).items()}
    metadata = model.peft_config["default"].to_dict()
    if isinstance(metadata["target_modules"], set):
        metadata["target_modules"] = sorted(metadata["target_modules"])
    metadata["base_model_name_or_path"] = "mmdit-a"
    StableDiffusion3Pipeline.save_lora_weights(folder, transformer_lora_layers=state,
                                               transformer_lora_adapter_metadata=metadata if with_metadata else None)
    stored(folder / "pytorch_lora_weights.safetensors", dtype)
    transformer = base()
    state, metadata = StableDiffusion3Pipeline.lora_state_dict(str(folder), weight_name="pytorch_lora_weights.safetensors", return_lora_metadata=True)
    assert (metadata is not None) == with_metadata
    StableDiffusion3Pipeline.load_lora_into_transformer(state, transformer, metadata=metadata)
    return velocity(transformer)


def original_shapes():
    """SD3's own names of mmdit-a's matrices (the checkpoint that diffusers' conversion takes), with their shapes."""
    D, shapes = 32, {"x_embedder.proj": (32, 4, 2, 2), "context_embedder": (32, 24), "t_embedder.mlp.0": (32, 256), "t_embedder.mlp.2": (32, 32),
                     "y_embedder.mlp.0": (32, 20), "y_embedder.mlp.2": (32, 32), "final_layer.linear": (16, 32), "final_layer.adaLN_modulation.1": (64, 32)}
    for number in range(2):
        for side in ("x", "context"):
            last, block = side == "context" and number == 1, f"joint_blocks.{number}.{side}_block"
            shapes[f"{block}.attn.qkv"] = (3 * D, D)
            shapes[f"{block}.adaLN_modulation.1"] = (2 * D if last else 9 * D if side == "x" and number == 0 else 6 * D, D)
            if not last:
                shapes.update({f"{block}.attn.proj": (D, D), f"{block}.mlp.fc1": (4 * D, D), f"{block}.mlp.fc2": (D, 4 * D)})
    shapes.update({"joint_blocks.0.x_block.attn2.qkv": (3 * D, D), "joint_blocks.0.x_block.attn2.proj": (D, D)})
    return shapes


def make_kohya(name, layers, with_alpha):
    shapes, changes, tensors = original_shapes(), {}, {}
    for layer in layers:
        rows, columns = shapes[layer][0], shapes[layer][1:]
        rank = 1 + len(tensors) % 4
        down = normal(f"adapters/{name}/{layer}/down", rank, *columns, scale=0.3).float()
        up = normal(f"adapters/{name}/{layer}/up", rows, rank, *([1] * (len(columns) - 1)), scale=0.2).float()
        alpha = 1.5 if with_alpha else rank
        key = "lora_unet_" + layer.replace(".", "_")
        tensors.update({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up})
        if with_alpha:
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
        changes[layer] = alpha / rank * (up.flatten(1) @ down.flatten(1)).reshape(rows, *columns)
    (FOLDER / name).mkdir(parents=True)
    save_file(tensors, FOLDER / name / "lora.safetensors")
    checkpoint = {"pos_embed": torch.zeros(1, 64, 32)}
    for layer, shape in shapes.items():
        checkpoint[layer + ".weight"] = changes.get(layer, torch.zeros(shape))
        checkpoint[layer + ".bias"] = torch.zeros(shape[0])
    for number in range(2):
        for side in ("x", "context"):
            for part in ("ln_q", "ln_k"):
                checkpoint[f"joint_blocks.{number}.{side}_block.attn.{part}.weight"] = torch.zeros(16)
    for part in ("ln_q", "ln_k"):
        checkpoint[f"joint_blocks.0.x_block.attn2.{part}.weight"] = torch.zeros(16)
    converted = convert_sd3_transformer_checkpoint_to_diffusers(checkpoint)
    transformer = base()
    state = transformer.state_dict()
    for key, change in converted.items():
        assert key in state and state[key].shape == change.shape, key
        if key.endswith("weight"):
            state[key] += change
    return velocity(transformer)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    draw = random.Random(SEED)
    expected = {}
    for number in range(20):
        kind = ("peft", "diffusers")[number % 2]
        name = f"{kind}-{number:02}"
        dtype = DTYPES[draw.choice(list(DTYPES))]
        options = configuration(draw)
        if kind == "peft":
            expected[name] = make_peft(name, options, dtype)
        else:
            expected[name] = make_diffusers(name, options, dtype, with_metadata=number % 4 == 1)
    names = sorted(original_shapes())
    for number in range(3):
        name = f"kohya-{number}"
        expected[name] = make_kohya(name, names[number::3], with_alpha=number != 1)
    unchanged = velocity(base())
    for name, value in expected.items():
        effect = float((value - unchanged).abs().max())
        print(f"  {name}: effect {effect:.3f}")
        assert effect > 0.005, name
    save_tensors(FOLDER / "expected.safetensors", expected, seed=SEED, versions=versions("diffusers", "peft"),
                 inputs="mmdit-a/golden.safetensors input/*", computed="float32", tolerance=MODEL_TOLERANCE)
