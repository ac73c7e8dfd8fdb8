"""Text-to-speech models, and time series models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.zoo_entries import (
    FFN,
    HEADS,
    LAYERS,
    POS,
    H,
    add,
)
from tests.models.zoo_sizes import (
    t5_sizes,
)
from tests.models.zoo_weights import liven


def _hifigan(folder: Path, seed: int) -> None:
    """SpeechT5 needs a vocoder model beside it."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    voc = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=16,
            upsample_initial_channel=32,
            upsample_rates=[4, 4],
            upsample_kernel_sizes=[8, 8],
            resblock_kernel_sizes=[3, 5],
            resblock_dilation_sizes=[[1, 3], [1, 3]],
        )
    )
    liven(voc, seed)
    voc.eval().save_pretrained(folder / "vocoder")


add(
    "speecht5",
    "text-to-audio",
    {
        "vocab_size": 81,
        "hidden_size": H,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN,
        "conv_dim": (16, 16),
        "conv_stride": (5, 2),
        "conv_kernel": (10, 3),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "num_mel_bins": 16,
        "speech_decoder_prenet_units": 32,
        "speaker_embedding_dim": 16,
        "speech_decoder_postnet_units": 32,
        "max_speech_positions": 64,
        "max_text_positions": 64,
        "encoder_max_relative_position": 16,
        "reduction_factor": 2,
        "speech_decoder_prenet_dropout": 0.0,
    },
    also=_hifigan,
)
add(
    "vits",
    "text-to-audio",
    {
        "vocab_size": 40,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "window_size": 4,
        "ffn_dim": 48,
        "flow_size": 32,
        "spectrogram_bins": 33,
        "duration_predictor_num_flows": 2,
        "duration_predictor_filter_channels": 32,
        "prior_encoder_num_flows": 2,
        "upsample_initial_channel": 32,
        "upsample_rates": [4, 4],
        "upsample_kernel_sizes": [8, 8],
        "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3], [1, 3]],
        "prior_encoder_num_wavenet_layers": 2,
        "posterior_encoder_num_wavenet_layers": 2,
        "depth_separable_num_layers": 2,
        "noise_scale": 0.0,
        "noise_scale_duration": 0.0,
    },
)


def _musicgen() -> Any:
    from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config

    text = T5Config(**t5_sizes())
    audio = EncodecConfig(
        target_bandwidths=[10.0],
        sampling_rate=16000,
        num_filters=8,
        hidden_size=16,
        codebook_dim=16,
        upsampling_ratios=[8, 4],
        num_lstm_layers=1,
        codebook_size=64,
        kernel_size=3,
        last_kernel_size=3,
        norm_type="weight_norm",
        use_causal_conv=False,
        chunk_length_s=None,
    )
    dec = MusicgenDecoderConfig(
        vocab_size=64,
        hidden_size=H,
        num_hidden_layers=LAYERS,
        ffn_dim=FFN,
        num_attention_heads=HEADS,
        num_codebooks=2,
        max_position_embeddings=POS,
        pad_token_id=64,
        bos_token_id=64,
    )
    return MusicgenConfig.from_sub_models_config(text, audio, dec)


add("musicgen", "text-to-audio", _musicgen, "t5")

# --- time series -----------------------------------------------------------------------------------------

_ts = {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "prediction_length": 12, "d_model": 16}
add(
    "patchtst",
    "time-series-forecasting",
    dict(patch_stride=8, num_hidden_layers=LAYERS, num_attention_heads=HEADS, ffn_dim=32, do_mask_input=False, **_ts),
)
add("patchtsmixer", "time-series-forecasting", dict(patch_stride=8, num_layers=LAYERS, expansion_factor=2, **_ts))
add(
    "decision_transformer",
    "reinforcement-learning",
    {
        "state_dim": 17,
        "act_dim": 4,
        "hidden_size": H,
        "max_ep_len": 64,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": POS,
    },
)
