"""clip-dual-a/tuning.safetensors: PickScore tuned against generated images, as Adv-GRPO's PickScore script does it.

Two prompts (`prompt_ids`, of scores.json's first two), three generated images each (`fake.N`) and two references each (`real.N`), [H, W, 3] in
8 bits. Image i of a prompt is paired with the prompt's reference i mod 2. The last K layers of the vision tower are trained, all else is frozen:
L = mean softplus(-(s_ref - s_gen)), s = exp(logit_scale) cos; two steps of Adam on the same pairs (`constants`). For K = 1 and 2:
`K/states.fake.N` (trunk: all tokens after layer L - K), `K/loss` [2], `K/grad/PARAMETER` of the first step, `K/tuned/PARAMETER` after both,
`K/score_{real,fake}.{before,after}` / 26 for every image with its own prompt.
"""
import copy
import json

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from common import FIXTURES, SEED, save_tensors, versions
from make_clip_model import TOKENS, picture

FOLDER = FIXTURES / "clip-dual-a"
MEMBERS, REFERENCES, SIDE = 3, 2, 28
ADAM = dict(lr=2e-3, betas=(0.5, 0.999), eps=1e-8)

prompts = json.loads((FOLDER / "scores.json").read_text())["prompts"][:2]
ids = CLIPTokenizer.from_pretrained(FOLDER)(prompts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").input_ids
processor = CLIPImageProcessorPil.from_pretrained(FOLDER)
pictures = {side: [picture(f"pickscore/{side}.{i}", SIDE, SIDE) for i in range(len(prompts) * count)]
            for side, count in (("fake", MEMBERS), ("real", REFERENCES))}
pixels = {side: torch.cat([processor(Image.fromarray(image), return_tensors="pt")["pixel_values"] for image in images]).double()
          for side, images in pictures.items()}
tensors = {f"{side}.{i}": image for side, images in pictures.items() for i, image in enumerate(images)}
tensors["prompt_ids"] = ids.int()
pairs = [(p * REFERENCES + i % REFERENCES, p * MEMBERS + i) for p in range(len(prompts)) for i in range(MEMBERS)]
original = CLIPModel.from_pretrained(FOLDER).double().eval()


def scores(model, side):
    """exp(logit_scale) cos(image, its own prompt), [images]."""
    logits = model(input_ids=ids, pixel_values=pixels[side]).logits_per_image
    own = torch.arange(len(pixels[side])) // (len(pixels[side]) // len(prompts))
    return logits.gather(1, own[:, None])[:, 0]


for K in (1, 2):
    model = copy.deepcopy(original).requires_grad_(False)
    tuned = {f"vision_model.encoder.layers.{model.config.vision_config.num_hidden_layers - K + layer}.{key}": parameter
             for layer, part in enumerate(model.vision_model.encoder.layers[-K:]) for key, parameter in part.named_parameters()}
    for parameter in tuned.values():
        parameter.requires_grad_(True)
    with torch.no_grad():
        states = model.vision_model(pixel_values=pixels["fake"], output_hidden_states=True).hidden_states[-1 - K]
        tensors.update({f"{K}/states.fake.{i}": state for i, state in enumerate(states)})
        tensors.update({f"{K}/score_{side}.before": scores(model, side) / 26 for side in pixels})
    optimizer, losses = torch.optim.Adam(tuned.values(), **ADAM), []
    for step in range(2):
        optimizer.zero_grad()
        real, fake = scores(model, "real"), scores(model, "fake")
        loss = F.softplus(-(real[[r for r, _ in pairs]] - fake[[g for _, g in pairs]])).mean()
        loss.backward()
        losses.append(loss)
        if step == 0:
            tensors.update({f"{K}/grad/{key}": parameter.grad.clone() for key, parameter in tuned.items()})
        optimizer.step()
    with torch.no_grad():
        tensors.update({f"{K}/score_{side}.after": scores(model, side) / 26 for side in pixels})
    tensors.update({f"{K}/loss": torch.stack(losses), **{f"{K}/tuned/{key}": parameter for key, parameter in tuned.items()}})
    print(K, [float(loss) for loss in losses])

save_tensors(FOLDER / "tuning.safetensors", tensors, seed=SEED, versions=versions("transformers", "pillow"),
             computed="pixels by Pillow and float32, the rest float64, stored as float32", constants=json.dumps(ADAM, sort_keys=True))
