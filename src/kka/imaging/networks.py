"""The networks of a small drawing model, all diffusers' own classes, and the pipeline that they make.

Pictures of 32 or 64 pixels become 16 x 16 places of 8 channels; a UNet works there on three levels, and hears the
caption through cross-attention on the lower two. The pipeline is Stable Diffusion's, its scheduler for flow matching.
"""

from typing import Any

from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

PLACES = 16
"""Side of the latent pictures."""
LATENT_CHANNELS = 8
TIMES = 1000
"""The UNet's time at pure noise; it is 0 at the picture."""


def autoencoder(size: int, channels: int) -> Any:
    """(b, 3, size, size) in [-1, 1] <-> (b, 8, 16, 16). Residual blocks at full size would take most of its time."""
    levels = (size // PLACES).bit_length()  # one more than halvings
    network: Any = AutoencoderTiny(
        encoder_block_out_channels=(channels,) * levels,
        decoder_block_out_channels=(channels,) * levels,
        num_encoder_blocks=(0, *(1,) * (levels - 1)),
        num_decoder_blocks=(*(1,) * (levels - 1), 0),
        latent_channels=LATENT_CHANNELS,
    )
    nn.init.constant_(network.decoder.layers[-1].bias, 0.5)  # what it draws begins at grey, and not at black
    return network


def unet(width: int) -> Any:
    """The velocity of a noisy latent picture (b, 8, 16, 16) at a time, given a text (b, l, 2 width)."""
    network: Any = UNet2DConditionModel(
        sample_size=PLACES,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(width // 2, width, 2 * width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * width,
        attention_head_dim=max(1, width // 16),  # which diffusers takes for the number of heads
        norm_num_groups=8,
    )
    for module in network.modules():  # each residual block begins as the identity, which allows a high learning rate
        if isinstance(module, ResnetBlock2D):
            _zero(module.conv2)
    _zero(network.conv_out)
    return network


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def pipeline(vae: Any, network: Any, text_encoder: Any, tokenizer: Any) -> Any:
    """A `StableDiffusionPipeline` that draws with them."""
    made: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=network,
        scheduler=DPMSolverMultistepScheduler(
            num_train_timesteps=TIMES, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0,
            steps_offset=1,  # of no effect here, and the pipeline asks for it
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made
