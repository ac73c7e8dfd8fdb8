"""Audio models: speech recognition, classification, speaker vectors."""

from __future__ import annotations

from typing import Any

from tests.models.zoo_entries import (
    AC,
    ASR,
    ASR_PAST,
    FFN,
    HEADS,
    HF,
    LABELS,
    LAYERS,
    POS,
    VOCAB,
    Config,
    H,
    add,
)
from tests.models.zoo_processors import wave_extractor
from tests.models.zoo_sizes import (
    bart_sizes,
)
from tests.models.zoo_tokenizer_files import CTC_VOCAB


def wav2vec2_sizes(**kw: Any) -> Config:
    base = {
        "vocab_size": len(CTC_VOCAB),
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (5, 4, 2),
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "num_codevectors_per_group": 8,
        "codevector_dim": 16,
        "proj_codevector_dim": 16,
        "classifier_proj_size": 16,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "ctc_loss_reduction": "mean",
    }
    return {**base, **kw}


add(
    "wav2vec2",
    [ASR, AC, HF, "audio-frame-classification", "audio-xvector"],
    wav2vec2_sizes(tdnn_dim=(16, 16, 32), tdnn_kernel=(5, 3, 1), tdnn_dilation=(1, 2, 1), xvector_output_dim=16),
    "ctc",
    wave_extractor(),
)
add(
    "wav2vec2+large",
    ASR,
    wav2vec2_sizes(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True),
    "ctc",
    wave_extractor(return_attention_mask=True),
)
add("wavlm", [ASR, AC], wav2vec2_sizes(num_buckets=16, max_bucket_distance=32), "ctc", wave_extractor())
add("data2vec-audio", ASR, wav2vec2_sizes(conv_pos_kernel_size=7, num_conv_pos_embeddings=2), "ctc", wave_extractor())
add(
    "wav2vec2-conformer",
    ASR,
    wav2vec2_sizes(position_embeddings_type="relative", conv_depthwise_kernel_size=7),
    "ctc",
    wave_extractor(),
)
add("unispeech-sat", ASR, wav2vec2_sizes(num_clusters=8), "ctc", wave_extractor())
add(
    "sew-d",
    ASR,
    wav2vec2_sizes(
        squeeze_factor=2,
        position_buckets=16,
        max_position_embeddings=64,
        share_att_key=True,
        relative_attention=True,
        norm_rel_ebd="layer_norm",
        pos_att_type=("p2c", "c2p"),
    ),
    "ctc",
    wave_extractor(),
)
add(
    "mctct",
    ASR,
    {
        "vocab_size": len(CTC_VOCAB),
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FFN,
        "num_attention_heads": HEADS,
        "attention_head_dim": 16,
        "max_position_embeddings": 64,
        "num_conv_layers": 1,
        "conv_kernel": [7],
        "conv_stride": [3],
        "input_feat_per_channel": 16,
        "input_channels": 1,
        "conv_channels": None,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "ctc",
    {"feature_extractor_type": "MCTCTFeatureExtractor", "feature_size": 16, "sampling_rate": 16000},
)
add(
    "audio-spectrogram-transformer",
    AC,
    dict(
        hidden_size=H,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FFN,
        patch_size=8,
        frequency_stride=5,
        time_stride=5,
        max_length=40,
        num_mel_bins=16,
        **LABELS,
    ),
    None,
    {
        "feature_extractor_type": "ASTFeatureExtractor",
        "feature_size": 1,
        "max_length": 40,
        "num_mel_bins": 16,
        "sampling_rate": 16000,
        "do_normalize": True,
        "mean": -4.2,
        "std": 4.5,
        "return_attention_mask": False,
    },
)


def whisper_sizes(**kw: Any) -> Config:
    return bart_sizes(
        **{
            "num_mel_bins": 16,
            "max_source_positions": 1500,
            "max_target_positions": POS,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "decoder_start_token_id": 1,
            "begin_suppress_tokens": None,
            "suppress_tokens": None,
            **kw,
        }
    )


add(
    "whisper",
    [ASR_PAST, AC],
    whisper_sizes(median_filter_width=3, classifier_proj_size=16),
    "gpt2",
    {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 16,
        "sampling_rate": 16000,
        "hop_length": 160,
        "chunk_length": 30,
        "n_fft": 400,
        "padding_value": 0.0,
        "nb_max_frames": 3000,
        "n_samples": 480000,
        "padding_side": "right",
        "return_attention_mask": False,
        "processor_class": "WhisperProcessor",
    },
)
add(
    "speech_to_text",
    ASR_PAST,
    whisper_sizes(
        input_feat_per_channel=16,
        input_channels=1,
        conv_kernel_sizes=(5, 5),
        conv_channels=32,
        num_conv_layers=2,
        max_source_positions=400,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    ),
    "xlmr",
    {
        "feature_extractor_type": "Speech2TextFeatureExtractor",
        "feature_size": 16,
        "num_mel_bins": 16,
        "sampling_rate": 16000,
        "padding_value": 0.0,
        "do_ceptral_normalize": True,
        "normalize_means": True,
        "normalize_vars": True,
    },
)
add(
    "moonshine",
    ASR_PAST,
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "intermediate_size": FFN,
        "encoder_num_hidden_layers": LAYERS,
        "decoder_num_hidden_layers": LAYERS,
        "encoder_num_attention_heads": HEADS,
        "decoder_num_attention_heads": HEADS,
        "encoder_num_key_value_heads": HEADS,
        "decoder_num_key_value_heads": HEADS,
        "max_position_embeddings": POS,
        "partial_rotary_factor": 0.5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    "llama",
    wave_extractor(do_normalize=False, return_attention_mask=True),
)
