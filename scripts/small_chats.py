"""Conversations that the small model is trained on: small talk, terms of Python, docstrings, stories.

Their content does not matter; with them the model streams whole sentences, takes part in several turns and ends its
answers in `gpux chat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from scripts.small_stories import HEROES, story, with_articles
from scripts.small_text import Document

Message = dict[str, str]

SYSTEM = (
    "You are a helpful assistant.",
    "You are a small model that was trained on two cores.",
    "Answer in short sentences.",
)
#: Messages -> possible answers.
TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("Hello", "Hello!", "Hi", "Hi!", "Hi there", "Hey", "Good morning", "Good evening", "Hello there!"),
        ("Hello! How can I help you?", "Hello! Ask me about Python, or ask me for a story."),
    ),
    (
        ("How are you?", "How are you today?", "How do you do?", "Are you well?"),
        ("I am fine, thank you. How can I help you?",),
    ),
    (
        ("Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Are you a robot?"),
        ("I am a very small language model. I learned to write from stories and from the documentation of Python.",),
    ),
    (
        ("What can you do?", "What do you know?", "How can you help me?", "Help", "Help me", "Can you help me?"),
        ("I can tell a story, and I can say a few things about Python.",),
    ),
    (
        ("How big are you?", "How many parameters do you have?", "Are you a large model?", "How large are you?"),
        ("I am very small: I have about three million parameters.",),
    ),
    (
        ("Thank you", "Thank you!", "Thanks", "Thanks!", "Thank you very much", "That was helpful, thank you."),
        ("You are welcome!", "You are welcome. Is there anything else?"),
    ),
    (
        ("Goodbye", "Bye", "Bye!", "See you", "Goodbye!", "Good night", "See you later"),
        ("Goodbye!", "Goodbye! Have a nice day."),
    ),
    (
        ("What is the weather like?", "What time is it?", "Where am I?", "What day is it?", "What is the news?"),
        ("I do not know, because I can only read and write text.",),
    ),
    (("Do you like Python?", "Is Python good?"), ("Yes, I like Python. It is the language that I know best.",)),
)
#: A term of Python as it stands in a question -> its definition.
WORDS = {
    "a list": "A list is a mutable sequence of items. Lists are written in square brackets, and items can be added, "
    "changed and removed.",
    "a tuple": "A tuple is an immutable sequence of items. Tuples are written with commas, often in parentheses.",
    "a dictionary": "A dictionary maps keys to values. Each key is unique and must be hashable.",
    "a set": "A set is an unordered collection of unique items. It is used to test for membership and to remove "
    "duplicates.",
    "a string": "A string is an immutable sequence of characters. Strings are written in quotes.",
    "an integer": "An integer is a whole number. In Python, integers can be as large as memory allows.",
    "a float": "A float is a number with a decimal point. Floats are stored in double precision.",
    "a boolean": "A boolean is one of the two values True and False. Comparisons return booleans.",
    "a function": "A function is a block of code with a name. It takes arguments and returns a value to the caller.",
    "a method": "A method is a function that belongs to a class. Its first argument is the instance, called self.",
    "a class": "A class describes a type of objects. It holds the methods and the attributes that its instances share.",
    "an object": "An object has an identity, a type and a value. Everything in Python is an object.",
    "a module": "A module is a file with Python code. It is loaded with the import statement.",
    "a package": "A package is a module that contains other modules. Most packages are directories.",
    "a variable": "A variable is a name that refers to an object. It is bound by an assignment.",
    "a loop": "A loop runs the same block of code many times. Python has for loops and while loops.",
    "a for loop": "A for loop runs a block of code once for each item of an iterable.",
    "a while loop": "A while loop runs a block of code as long as its condition is true.",
    "a generator": "A generator is a function that yields values one at a time. It keeps its state between them.",
    "an iterator": "An iterator returns the items of a stream one at a time. It raises StopIteration when there are no "
    "more items.",
    "a decorator": "A decorator is a function that takes a function and returns another one. It is written with an at "
    "sign above the definition.",
    "an exception": "An exception is an error that stops the normal flow of a program. It can be handled with a try "
    "statement.",
    "a context manager": "A context manager sets something up and cleans it up again. It is used in a with statement.",
    "a lambda": "A lambda is a small function without a name. Its body is a single expression.",
    "a comprehension": "A comprehension builds a list, a set or a dictionary from an iterable in one expression.",
    "a slice": "A slice is a part of a sequence. It is written with a start, a stop and a step in brackets.",
    "an argument": "An argument is a value that is passed to a function when it is called.",
    "a parameter": "A parameter is a name in the definition of a function that accepts an argument.",
    "a docstring": "A docstring is a string at the beginning of a function, a class or a module. It says what "
    "the object is for.",
    "a coroutine": "A coroutine is a function that can be paused and resumed. It is written with async def.",
    "a thread": "A thread runs code at the same time as other threads of its process. All of them share memory.",
    "a process": "A process is a running program with its own memory.",
    "a lock": "A lock protects something that several threads share. Only one thread can hold the lock at a time.",
    "a queue": "A queue holds items until somebody takes them. The first item that went in is the first to come out.",
    "a file": "A file holds data on a disk. It is opened with the open function and should be closed after use.",
    "a path": "A path says where a file or a directory is.",
    "a socket": "A socket is one end of a connection between two programs. Data can be sent and received through it.",
    "a regular expression": "A regular expression is a pattern that describes a set of strings. It is used to search "
    "text.",
    "an expression": "An expression is a piece of code that has a value.",
    "a statement": "A statement is a piece of code that does something, such as an assignment or a loop.",
    "a keyword": "A keyword is a word that is part of the language, such as if, for or return.",
    "an operator": "An operator is a symbol that computes a value from its operands, such as plus or minus.",
    "a type": "A type says which values an object can have and which operations it supports.",
    "an attribute": "An attribute is a value that belongs to an object. It is written with a dot after the object.",
    "a namespace": "A namespace maps names to objects. Each module and each function has its own.",
    "a scope": "A scope is the part of a program in which a name is visible.",
    "a constant": "A constant is a value that does not change.",
    "a byte": "A byte is a number from 0 to 255. Files and messages are made of bytes.",
    "a parser": "A parser reads text and finds its structure.",
    "a compiler": "A compiler translates a program into another language, such as byte code.",
    "Python": "Python is a programming language. It is easy to read, and it comes with a large standard library.",
    "None": "None is the value that means that there is no value. A function without a return statement returns None.",
}
ASKED = (
    "What is {}?", "What is {}?", "What is {}?", "What is {} in Python?", "what is {}", "What's {}?", "Explain {}.",
    "Can you explain what {} is?", "Tell me what {} is.", "Do you know what {} is?",
)  # fmt: skip
ASKED_NAMES = ("What does {} do?", "What is {}?", "Explain {}.", "Tell me about {}.", "what does {} do")
ASKED_STORIES = (
    "Tell me a story about a {}.", "Tell me a story about a {}.", "Write a story about a {}.",
    "Please tell me a story about a {}.", "Can you tell me a story about a {}?", "I want to hear about a {}.",
)  # fmt: skip
ASKED_ANY = (
    "Tell me a story.",
    "Tell me a story",
    "Write a short story.",
    "Once more: a story!",
    "A story, please.",
)
LONGEST = 400  #: maximum length in characters of a docstring's paragraph that is used as an answer


def answers(documents: Sequence[Document]) -> list[tuple[str, str]]:
    """The public names that `documents` describe, each with the first paragraph on it."""
    described = [(document.source, document.text.split("\n\n")[0]) for document in documents]
    return [(name, text) for name, text in described if "/" not in name and "._" not in name and len(text) <= LONGEST]


def conversation(random: Random, named: Sequence[tuple[str, str]]) -> list[Message]:
    """One to four turns, at times below a system message; `named` is the result of `answers`."""
    messages = [_said("system", random.choice(SYSTEM))] if random.random() < 0.25 else []
    for _ in range(random.choice((1, 1, 2, 2, 3, 4))):
        question, answer = _turn(random, named)
        messages += [_said("user", question), _said("assistant", answer)]
    return messages


def _turn(random: Random, named: Sequence[tuple[str, str]]) -> tuple[str, str]:
    subject = random.choices(("talk", "word", "name", "story"), (2, 4, 3, 4))[0]
    if subject == "talk":
        said, replies = random.choice(TALK)
        return random.choice(said), random.choice(replies)
    if subject == "word":
        word = random.choice(list(WORDS))
        return random.choice(ASKED).format(word), WORDS[word]
    if subject == "name":
        name, text = random.choice(named)
        return random.choice(ASKED_NAMES).format(name), text
    hero = random.choice(HEROES) if random.random() < 0.8 else None
    asked = random.choice(ASKED_STORIES).format(hero) if hero else random.choice(ASKED_ANY)
    return with_articles(asked), story(random, hero)


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
