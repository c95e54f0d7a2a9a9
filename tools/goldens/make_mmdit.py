"""mmdit-a (like the base model and SD3.5: dual attention, qk norm), mmdit-b (SD3-medium: neither), and a LoRA adapter on mmdit-a.

golden.safetensors: `input/{latents,timestep,text,pooled}`, `output`, `grad_output`, `grad_input/{latents,text,pooled}` and
`grad/PARAMETER`. The adapter's: `output`, `grad_output`, `grad/TENSOR` with the adapter file's tensor names.
"""
import json
import shutil

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from common import FIXTURES, MODEL_TOLERANCE, SEED, float32_error, normal, randomize, save_json, save_tensors, versions

TARGETS = [f"attn.{name}" for name in
           ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")]
TIMESTEPS = [960.129, 278.049]
SHARED = dict(sample_size=8, patch_size=2, num_layers=2, num_attention_heads=2, attention_head_dim=16, caption_projection_dim=32,
              joint_attention_dim=24, pooled_projection_dim=20)
MODELS = {
    "mmdit-a": (dict(**SHARED, in_channels=4, out_channels=4, pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm"), (8, 8)),
    "mmdit-b": (dict(**SHARED, in_channels=16, out_channels=16, pos_embed_max_size=6), (6, 8)),
}


def inputs_of(name, transformer, size):
    config = transformer.config
    return {
        "latents": normal(f"{name}/latents", 2, config.in_channels, *size),
        "timestep": torch.tensor(TIMESTEPS),
        "text": normal(f"{name}/text", 2, 5, config.joint_attention_dim),
        "pooled": normal(f"{name}/pooled", 2, config.pooled_projection_dim),
    }


def forward(transformer, inputs, dtype):
    """The velocity, with the inputs as leaves. The timestep stays float32, as its embedding is in the reference."""
    leaves = {key: value.detach().to(dtype, copy=True).requires_grad_() for key, value in inputs.items() if key != "timestep"}
    output = transformer(hidden_states=leaves["latents"], timestep=inputs["timestep"].float(), encoder_hidden_states=leaves["text"],
                         pooled_projections=leaves["pooled"], return_dict=False)[0]
    return output, leaves


def run(transformer, inputs, grad_output, dtype):
    transformer.to(dtype).zero_grad()
    output, leaves = forward(transformer, inputs, dtype)
    output.backward(grad_output.to(dtype))
    result = {"output": output.detach()}
    result.update({f"grad_input/{key}": leaf.grad for key, leaf in leaves.items()})
    result.update({f"grad/{key}": p.grad.clone() for key, p in transformer.named_parameters() if p.requires_grad})
    return result


def make_model(name, configuration, size):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    transformer = SD3Transformer2DModel(**configuration).eval()
    randomize(transformer, name)
    transformer.save_pretrained(folder)
    inputs = inputs_of(name, transformer, size)
    grad_output = normal(f"{name}/grad_output", *inputs["latents"].shape)
    approximate = run(transformer, inputs, grad_output, torch.float32)
    exact = run(transformer, inputs, grad_output, torch.float64)
    save_tensors(folder / "golden.safetensors", {**{f"input/{key}": value for key, value in inputs.items()}, "grad_output": grad_output, **exact},
                 seed=SEED, versions=versions("diffusers"), computed="float64, stored as float32", tolerance=MODEL_TOLERANCE,
                 reference_float32_error=float32_error(exact, approximate))
    return SD3Transformer2DModel.from_pretrained(folder), inputs, grad_output


def make_adapter(transformer, inputs, grad_output):
    """PEFT's own folder, the same adapter as diffusers' file in two forms, and what the adapted model computes."""
    folder = FIXTURES / "mmdit-a-lora"
    shutil.rmtree(folder, ignore_errors=True)
    transformer.requires_grad_(False)
    model = get_peft_model(transformer, LoraConfig(r=4, lora_alpha=8, init_lora_weights="gaussian", target_modules=TARGETS))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(normal(key, *parameter.shape, scale=0.25 if "lora_A" in key else 0.2))
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = TARGETS  # a set in PEFT, so its order in the file is not fixed
    config["base_model_name_or_path"] = "mmdit-a"  # PEFT writes this machine's path
    save_json(folder / "adapter_config.json", config, sort_keys=True, indent=2)
    state = load_file(folder / "adapter_model.safetensors")
    assert len(state) == len(get_peft_model_state_dict(model)) == 30, len(state)

    save_diffusers_files(folder, state)
    adapted = PeftModel.from_pretrained(SD3Transformer2DModel.from_pretrained(FIXTURES / "mmdit-a"), folder, is_trainable=True)
    results = [run(adapted, inputs, grad_output, dtype) for dtype in (torch.float32, torch.float64)]
    approximate, exact = [{key.replace(".default.", "."): value for key, value in result.items()} for result in results]
    assert {key.removeprefix("grad/") for key in exact if key.startswith("grad/")} == set(state)
    save_tensors(folder / "golden.safetensors", {"grad_output": grad_output, **exact}, seed=SEED, versions=versions("diffusers", "peft"),
                 inputs="mmdit-a/golden.safetensors input/*", scale="alpha / r = 2", computed="float64, stored as float32",
                 tolerance=MODEL_TOLERANCE, reference_float32_error=float32_error(exact, approximate))
    check_diffusers_files(folder, inputs, exact["output"])


def save_diffusers_files(folder, state):
    """`pytorch_lora_weights` as diffusers saves it (alpha in the metadata) and with alpha / r folded into lora_B, for readers
    that take alpha = r."""
    layers = {key.removeprefix("base_model.model."): value for key, value in state.items()}
    metadata = dict(r=4, lora_alpha=8, target_modules=TARGETS, init_lora_weights="gaussian", bias="none", use_dora=False, use_rslora=False)
    StableDiffusion3Pipeline.save_lora_weights(folder, transformer_lora_layers=layers, transformer_lora_adapter_metadata=metadata)
    path = folder / "pytorch_lora_weights.safetensors"
    written = load_file(path)
    assert set(written) == {f"transformer.{key}" for key in layers}
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        save_tensors(path, written, **file.metadata())
    folded = {key: value * 2 if "lora_B" in key else value for key, value in written.items()}
    save_tensors(folder / "pytorch_lora_weights.folded.safetensors", folded, format="pt")


def check_diffusers_files(folder, inputs, expected):
    for file in ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.folded.safetensors"):
        transformer = SD3Transformer2DModel.from_pretrained(FIXTURES / "mmdit-a")
        state, metadata = StableDiffusion3Pipeline.lora_state_dict(str(folder), weight_name=file, return_lora_metadata=True)
        StableDiffusion3Pipeline.load_lora_into_transformer(state, transformer, metadata=metadata)
        with torch.no_grad():
            output = forward(transformer, inputs, torch.float32)[0]
        difference = float((output - expected).abs().max())
        print(f"  {file} loaded by diffusers: max difference {difference:.1e}")
        assert difference < 1e-4


if __name__ == "__main__":
    for name, (configuration, size) in MODELS.items():
        made = make_model(name, configuration, size)
        if name == "mmdit-a":
            make_adapter(*made)
