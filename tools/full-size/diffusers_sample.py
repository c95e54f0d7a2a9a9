"""The same images as `advgrpo sample --precision bf16`, by diffusers in bf16: time and peak memory.

usage: diffusers_sample.py MODEL LATENTS [--size N] [--steps N] [--threads N] [--guidance X] [--fp32-vae] [--out FILE]

LATENTS is what `advgrpo sample --save-latents` wrote: its initial noise is used, and the final latents are compared with its own.
Prints one JSON document; load, sample and decode are timed apart, `peak_rss_bytes` is the process's high-water mark.
"""
import argparse
import json
import resource
import time

import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("latents")
    parser.add_argument("--prompt", default="a red apple")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=4.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fp32-vae", action="store_true", help="decode in fp32, as advgrpo does")
    parser.add_argument("--out", help="write the final latents here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    noise = load_file(arguments.latents)

    begin = time.perf_counter()
    absent = dict.fromkeys(["text_encoder_3", "tokenizer_3", "feature_extractor", "image_encoder"])
    pipeline = StableDiffusion3Pipeline.from_pretrained(arguments.model, torch_dtype=torch.bfloat16, **absent)
    pipeline.set_progress_bar_config(disable=True)
    if arguments.fp32_vae:
        pipeline.vae.to(torch.float32)
    loaded = time.perf_counter()
    with torch.inference_mode():
        latents = pipeline(
            arguments.prompt, height=arguments.size, width=arguments.size, num_inference_steps=arguments.steps,
            guidance_scale=arguments.guidance, num_images_per_prompt=len(noise["initial"]), max_sequence_length=77,
            latents=noise["initial"].to(torch.bfloat16), output_type="latent").images
        sampled = time.perf_counter()
        vae = pipeline.vae
        scaled = (latents / vae.config.scaling_factor + vae.config.shift_factor).to(vae.dtype)
        images = pipeline.image_processor.postprocess(vae.decode(scaled).sample, output_type="pil")
    decoded = time.perf_counter()
    if arguments.out:
        save_file({"latents": latents.float().contiguous()}, arguments.out)
    difference = (latents.float() - noise["latents"]).norm() / noise["latents"].norm()
    print(json.dumps(dict(
        peer="diffusers", torch=torch.__version__, threads=arguments.threads, images=len(images),
        load_seconds=round(loaded - begin, 2), sample_seconds=round(sampled - loaded, 2),
        decode_seconds=round(decoded - sampled, 2), vae=str(vae.dtype),
        peak_rss_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        relative_difference_of_latents=round(difference.item(), 5))))


if __name__ == "__main__":
    main()
