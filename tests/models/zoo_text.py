"""Text encoders with every kind of head."""

from __future__ import annotations

from tests.models.zoo_entries import ENCODER_TASKS, FFN, HEADS, HF, LAYERS, POS, VOCAB, H, add
from tests.models.zoo_processors import image_processor, square
from tests.models.zoo_sizes import text_sizes

add("bert", [*ENCODER_TASKS, "multiple-choice"], text_sizes(), "wordpiece")
add(
    "distilbert",
    ENCODER_TASKS,
    {
        "vocab_size": VOCAB,
        "dim": H,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "hidden_dim": FFN,
        "max_position_embeddings": POS,
    },
    "wordpiece",
)
add("roberta", ENCODER_TASKS, text_sizes(type_vocab_size=1, max_position_embeddings=POS + 2), "roberta")
add("xlm-roberta", ENCODER_TASKS, text_sizes(type_vocab_size=1, max_position_embeddings=POS + 2), "xlmr")
add("albert", ["fill-mask", "text-classification", HF], text_sizes(embedding_size=32), "albert")
add(
    "mpnet",
    [HF, "fill-mask"],
    text_sizes(max_position_embeddings=POS + 2, pad_token_id=1, relative_attention_num_buckets=32),
    "wordpiece",
)  # the bucket count 32 is hard-coded in the model's code
add(
    "modernbert",
    [HF, "fill-mask", "text-classification", "token-classification"],
    text_sizes(
        num_hidden_layers=3,
        global_attn_every_n_layers=3,
        local_attention=16,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        reference_compile=False,
    ),
    "wordpiece",
)
add(
    "deberta",
    ["fill-mask", "text-classification", HF],
    text_sizes(
        relative_attention=True,
        max_relative_positions=-1,
        pos_att_type=["c2p", "p2c"],
        position_biased_input=False,
        type_vocab_size=0,
        pooler_hidden_size=H,
    ),
    "roberta",
)
add(
    "deberta-v2",
    ["fill-mask", "text-classification", "token-classification", "question-answering", HF],
    text_sizes(
        relative_attention=True,
        max_relative_positions=-1,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pooler_hidden_size=H,
    ),
    "xlmr",
)
add("convbert", "fill-mask", text_sizes(embedding_size=H, head_ratio=2, conv_kernel_size=5), "wordpiece")
add("roformer", ["fill-mask", "text-classification"], text_sizes(embedding_size=H), "wordpiece")
add(
    "mobilebert",
    ["fill-mask", "question-answering"],
    text_sizes(embedding_size=32, intra_bottleneck_size=32, num_feedforward_networks=2),
    "wordpiece",
)
add(
    "nystromformer",
    "fill-mask",
    text_sizes(num_landmarks=8, segment_means_seq_len=8, conv_kernel_size=5, max_position_embeddings=POS),
    "wordpiece",
)
add(
    "xlm",
    "fill-mask",
    {
        "vocab_size": VOCAB,
        "emb_dim": H,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "n_langs": 1,
        "max_position_embeddings": POS,
        "pad_index": 2,
        "bos_index": 0,
        "eos_index": 1,
        "pad_token_id": 2,
    },
    "xlmr",
)
add(
    "flaubert",
    "fill-mask",
    {
        "vocab_size": VOCAB,
        "emb_dim": H,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "n_langs": 1,
        "max_position_embeddings": POS,
        "pre_norm": True,
        "pad_token_id": 2,
    },
    "xlmr",
)
add("splinter", "question-answering", text_sizes(question_token_id=104), "wordpiece")
add("rembert", "fill-mask", text_sizes(input_embedding_size=32, output_embedding_size=64), "albert")
add(
    "longformer",
    ["fill-mask", HF],
    text_sizes(attention_window=[8, 8], max_position_embeddings=POS + 2, type_vocab_size=1, sep_token_id=2),
    "roberta",
)
add(
    "longformer+types2",
    "fill-mask",  # real checkpoints have type_vocab_size=1, as above
    text_sizes(attention_window=[8, 8], max_position_embeddings=POS + 2, type_vocab_size=2, sep_token_id=2),
    "roberta",
)
add("ibert", "fill-mask", text_sizes(type_vocab_size=1, max_position_embeddings=POS + 2, quant_mode=False), "roberta")
add(
    "big_bird",
    ["fill-mask", "question-answering"],
    text_sizes(
        attention_type="block_sparse",
        block_size=16,
        num_random_blocks=1,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
    ),
    "albert",
)
add(
    "esm",
    "fill-mask",
    text_sizes(
        vocab_size=33,
        pad_token_id=1,
        mask_token_id=32,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
    ),
    "esm",
)
add(
    "markuplm",
    HF,
    text_sizes(
        max_xpath_tag_unit_embeddings=64,
        max_xpath_subs_unit_embeddings=64,
        tag_pad_id=61,
        subs_pad_id=60,
        xpath_unit_hidden_size=8,
        max_depth=10,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    ),
    "wordpiece",
)
add("layoutlm", ["token-classification", "fill-mask"], text_sizes(max_2d_position_embeddings=128), "wordpiece")
add(
    "layoutlmv3",
    ["token-classification", "question-answering"],
    text_sizes(
        max_2d_position_embeddings=128,
        coordinate_size=12,
        shape_size=8,
        input_size=32,
        patch_size=8,
        visual_embed=True,
        max_position_embeddings=POS + 2,
    ),
    "roberta",
    image_processor("LayoutLMv3ImageProcessor", square(32), apply_ocr=False),
)
add("visual_bert", HF, text_sizes(visual_embedding_dim=32), "wordpiece")
add(
    "perceiver",
    "fill-mask",
    {
        "vocab_size": 262,
        "d_model": 32,
        "d_latents": 32,
        "num_latents": 16,
        "num_blocks": 1,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
        "max_position_embeddings": POS,
    },
)
