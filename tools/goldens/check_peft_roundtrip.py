"""Does an adapter written elsewhere load in PEFT and move the transformer as it should?

usage: check_peft_roundtrip.py MODEL_DIR ADAPTER_DIR INPUTS.safetensors EXPECTED.safetensors [--tolerance 1e-4]

MODEL_DIR: a diffusers transformer folder, or a pipeline folder with transformer/. ADAPTER_DIR: a PEFT folder, or a diffusers file
pytorch_lora_weights.safetensors. A PEFT folder that holds this file too is also loaded with `pipe.load_lora_weights(folder)`, and the file
with `transformer.load_lora_adapter`: both must do what PEFT does. INPUTS: latents, timestep, text, pooled, with or without the prefix `input/`. EXPECTED: `output`.
Prints the largest absolute difference; exits 1 above the tolerance, 2 if the adapter does not fit.
"""
import argparse
import pathlib
import sys

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import PeftModel
from safetensors.torch import load_file


def load_transformer(folder: pathlib.Path) -> torch.nn.Module:
    nested = folder / "transformer"
    return SD3Transformer2DModel.from_pretrained(nested if nested.is_dir() else folder, torch_dtype=torch.float32)


def load_adapter(transformer: torch.nn.Module, path: pathlib.Path) -> torch.nn.Module:
    """Strict: every tensor of the file must land in the model, and every adapter tensor of the model must come from the file."""
    if path.is_file():
        state, metadata = StableDiffusion3Pipeline.lora_state_dict(str(path), return_lora_metadata=True)
        StableDiffusion3Pipeline.load_lora_into_transformer(state, transformer, metadata=metadata)
        written, prefix, model = load_file(path), "transformer.", transformer
    else:
        model = PeftModel.from_pretrained(transformer, str(path))
        written, prefix = load_file(path / "adapter_model.safetensors"), ""
    inside = {name.replace(".default_0.", ".").replace(".default.", "."): value for name, value in model.state_dict().items() if "lora_" in name}
    expected = {name.removeprefix(prefix) for name in written}
    if expected != set(inside):
        print("adapter does not fit; only in the file:", sorted(expected - set(inside))[:5], "only in the model:", sorted(set(inside) - expected)[:5])
        sys.exit(2)
    if path.is_dir() and any(not torch.equal(inside[name], value.float()) for name, value in written.items()):
        print("adapter tensors changed while loading")
        sys.exit(2)
    return model.eval()


def as_diffusers_loads(folder: pathlib.Path, model: pathlib.Path) -> dict:
    """The transformer with the folder as a user of diffusers loads it, by the name of the call."""
    pipe = StableDiffusion3Pipeline(transformer=load_transformer(model), scheduler=None, vae=None, text_encoder=None, tokenizer=None,
                                    text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None)
    pipe.load_lora_weights(str(folder))
    alone = load_transformer(model)
    # Without weight_name diffusers 0.42 reads a file by another way, which leaves out its metadata.
    alone.load_lora_adapter(str(folder), weight_name="pytorch_lora_weights.safetensors")
    return {"load_lora_weights": pipe.transformer.eval(), "load_lora_adapter": alone.eval()}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "adapter", "inputs", "expected"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    inputs = {name.removeprefix("input/"): value for name, value in load_file(options.inputs).items()}
    models = {"adapter": load_adapter(load_transformer(options.model), options.adapter)}
    if (options.adapter / "pytorch_lora_weights.safetensors").is_file():
        models.update(as_diffusers_loads(options.adapter, options.model))
    expected = load_file(options.expected)["output"]
    failed = False
    for call, model in models.items():
        with torch.no_grad():
            output = model(hidden_states=inputs["latents"], timestep=inputs["timestep"], encoder_hidden_states=inputs["text"],
                           pooled_projections=inputs["pooled"], return_dict=False)[0]
        if output.shape != expected.shape:
            print(f"{call}: shape {tuple(output.shape)}, expected {tuple(expected.shape)}")
            sys.exit(1)
        difference = float((output - expected).abs().max())
        print(f"{call}: max abs difference {difference:.3e} (largest output {float(expected.abs().max()):.3f}, tolerance {options.tolerance:g})")
        failed = failed or difference > options.tolerance
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
