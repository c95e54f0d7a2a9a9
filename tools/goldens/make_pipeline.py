"""pipeline/: the base model through diffusers' StableDiffusion3Pipeline in float32 (bf16 weights upcast), end to end.

golden.safetensors, for prompt N of prompts.json: `N/{initial_latents,text,pooled}`, `N/STEPS/{latents,image}` for 10 and 28 steps (latents as
the sampler leaves them; image [3, H, W] in [0, 1]) with N-STEPS.png beside it; `negative/{text,pooled}` of the empty prompt; for prompt 0
in 10 steps `trajectory` (latents after every step) and `first/{negative,positive}` velocities; `vae/{mean,log_variance}` of image 0/28
scaled to [-1, 1]; `dino/{blocks.N,tokens}` of the same image, normalised by the backbone's mean and std.
"""
import shutil

import torch
import timm
from diffusers import StableDiffusion3Pipeline
from PIL import Image
from safetensors.torch import load_file

from common import BASE_MODEL, FIXTURES, SEED, normal, save_json, save_tensors, versions

PROMPTS = ["grinning face", "red heart", "Deciduous Tree!"]
GUIDANCE, STEPS = 4.5, (10, 28)
FOLDER = FIXTURES / "pipeline"


def load(dtype):
    pipeline = StableDiffusion3Pipeline.from_pretrained(BASE_MODEL, text_encoder_3=None, tokenizer_3=None, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def sample(pipeline, prompt, latents, steps):
    """(final latents, image, latents after every step)."""
    trajectory = []

    def keep(_, __, ___, values):
        trajectory.append(values["latents"][0].clone())
        return values

    final = pipeline(prompt=prompt, latents=latents.clone(), num_inference_steps=steps, guidance_scale=GUIDANCE, max_sequence_length=16, output_type="latent",
                     callback_on_step_end=keep, height=64, width=64).images
    scaled = final / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
    image = (pipeline.vae.decode(scaled, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
    return final[0], image[0], torch.stack(trajectory)


@torch.no_grad()
def backbone_features(image):
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=64, patch_size=8, depth=6, init_values=1.0).eval()
    model.load_state_dict(load_file(BASE_MODEL / "dino" / "model.safetensors"))
    model.double()
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = ((image.double() - mean) / std)[None]
    tokens, blocks = model.forward_intermediates(pixels, indices=[2, 5], output_fmt="NLC", return_prefix_tokens=True, norm=False)
    result = {f"dino/blocks.{index}": torch.cat([prefix, patches], 1)[0] for index, (patches, prefix) in zip((2, 5), blocks)}
    return {**result, "dino/tokens": tokens[0]}


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    tensors, worst = {}, 0.0
    single, double = load(torch.float32), load(torch.float64)
    for index, prompt in enumerate(PROMPTS):
        latents = normal(f"pipeline/{index}", 1, 16, 16, 16)
        with torch.no_grad():
            text, negative_text, pooled, negative_pooled = single.encode_prompt(prompt, prompt, prompt, max_sequence_length=16)
        tensors |= {f"{index}/initial_latents": latents[0], f"{index}/text": text[0], f"{index}/pooled": pooled[0],
                    "negative/text": negative_text[0], "negative/pooled": negative_pooled[0]}
        if index == 0:
            with torch.no_grad():
                velocities = single.transformer(hidden_states=latents.float().repeat(2, 1, 1, 1), timestep=torch.tensor([1000.0, 1000.0]),
                                                encoder_hidden_states=torch.cat([negative_text, text]),
                                                pooled_projections=torch.cat([negative_pooled, pooled]), return_dict=False)[0]
            tensors["first/negative"], tensors["first/positive"] = velocities
        for steps in STEPS:
            final, image, trajectory = sample(single, prompt, latents.float(), steps)
            exact = sample(double, prompt, latents, steps)
            worst = max(worst, *(float((one - other).abs().max()) for one, other in zip((final, image), exact)))
            tensors[f"{index}/{steps}/latents"], tensors[f"{index}/{steps}/image"] = final, image
            bytes_ = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(bytes_).save(FOLDER / f"{index}-{steps}.png")
            if index == 0 and steps == 10:
                tensors["trajectory"] = trajectory
    image = tensors[f"0/{STEPS[-1]}/image"]
    with torch.no_grad():
        posterior = double.vae.encode((image.double() * 2 - 1)[None]).latent_dist
    tensors |= {"vae/mean": posterior.mean[0], "vae/log_variance": posterior.logvar[0], **backbone_features(image)}
    save_json(FOLDER / "prompts.json", {"prompts": PROMPTS, "negative": "", "guidance_scale": GUIDANCE, "steps": STEPS, "max_sequence_length": 16})
    save_tensors(FOLDER / "golden.safetensors", tensors, seed=SEED, versions=versions("diffusers", "transformers", "timm"), computed="float32; vae and dino float64",
                 reference_float32_error=f"{worst:.1e} absolute, of final latents and images against the same pipeline in float64",
                 tolerance="text, pooled, first 1e-4; latents and image 5e-4; PNG bytes may differ by 1; dino 1e-3; guidance multiplies differences by 4.5 a step")
    print(f"  float32 against float64: {worst:.1e}")


if __name__ == "__main__":
    main()
