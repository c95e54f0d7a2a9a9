"""vae-a (like the base model: no mid attention, one resnet a block) and vae-b (SD3-like: mid attention, two resnets a block).

golden.safetensors: `encode/{input,mean,log_variance}`, `decode/{input,output,grad_output,grad_input}`, `decode/grad/PARAMETER`, and
`image/{latents,pixels,bytes}`: scaled latents -> z / scaling_factor + shift_factor -> decode -> (x / 2 + 0.5) clamped -> rounded uint8.
"""
import shutil

import torch
from diffusers import AutoencoderKL

from common import FIXTURES, MODEL_TOLERANCE, SEED, float32_error, normal, randomize, save_tensors, versions

SHARED = dict(in_channels=3, out_channels=3, norm_num_groups=4, use_quant_conv=False, use_post_quant_conv=False,
              scaling_factor=1.5305, shift_factor=0.0609, force_upcast=True)
MODELS = {
    "vae-a": (dict(**SHARED, latent_channels=6, block_out_channels=(8, 12, 12), layers_per_block=1, sample_size=16,
                   down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, mid_block_add_attention=False), (16, 24)),
    "vae-b": (dict(**SHARED, latent_channels=4, block_out_channels=(8, 16), layers_per_block=2, sample_size=16,
                   down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, mid_block_add_attention=True), (12, 8)),
}


def run(vae, image, latents, grad_output, dtype):
    vae.to(dtype).zero_grad()
    with torch.no_grad():
        posterior = vae.encode(image.to(dtype)).latent_dist
        config = vae.config
        pixels = (vae.decode(latents.to(dtype) / config.scaling_factor + config.shift_factor, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
    leaf = latents.to(dtype, copy=True).requires_grad_()
    output = vae.decode(leaf, return_dict=False)[0]
    output.backward(grad_output.to(dtype))
    result = {"encode/mean": posterior.mean, "encode/log_variance": posterior.logvar, "decode/output": output.detach(), "decode/grad_input": leaf.grad,
              "image/pixels": pixels, "image/bytes": (pixels * 255).round().to(torch.uint8)}
    result.update({f"decode/grad/{key}": p.grad.clone() for key, p in vae.named_parameters() if p.grad is not None})
    return result


for name, (configuration, (height, width)) in MODELS.items():
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    vae = AutoencoderKL(**configuration).eval()
    randomize(vae, name)
    vae.save_pretrained(folder)
    ratio = 2 ** (len(vae.config.block_out_channels) - 1)
    image = normal(f"{name}/image", 2, 3, height, width, scale=0.5)
    latents = normal(f"{name}/latents", 2, vae.config.latent_channels, height // ratio, width // ratio)
    grad_output = normal(f"{name}/grad_output", 2, 3, height, width)
    approximate, exact = (run(vae, image, latents, grad_output, dtype) for dtype in (torch.float32, torch.float64))
    save_tensors(folder / "golden.safetensors", {"encode/input": image, "decode/input": latents, "image/latents": latents, "decode/grad_output": grad_output, **exact},
                 seed=SEED, versions=versions("diffusers"), computed="float64, stored as float32", tolerance=MODEL_TOLERANCE + "; bytes may differ by 1",
                 reference_float32_error=float32_error(exact, approximate))
