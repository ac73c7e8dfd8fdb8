"""The small model's tokenizer: byte-level BPE with the special tokens of ChatML, trained on the small model's text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scripts.small_chats import answers, conversation
from scripts.small_stories import story
from scripts.small_text import Document

ENTRIES = 2560
END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"  #: ids 0, 1, 2
POSITIONS = 1024
EXAMPLES = 1500  #: stories and conversations for training, besides all of Python's text
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(documents: list[Document], seed: int) -> PreTrainedTokenizerFast:
    """Train the merges on the training documents, and wrap the tokenizer for transformers."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES,
        special_tokens=[END, TURN, TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bare.train_from_iterator(_texts(documents, Random(seed)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        eos_token=TURN_END,
        pad_token=END,
        additional_special_tokens=[TURN],
        chat_template=TEMPLATE,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _texts(documents: list[Document], random: Random) -> Iterator[str]:
    yield from (document.text for document in documents)
    named = answers(documents)
    for _ in range(EXAMPLES):
        yield story(random)
        yield from (f"{said['role']}\n{said['content']}" for said in conversation(random, named))


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, with the template in the latter as older readers expect it."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
