"""Endless small stories for the small model to learn English from: a grammar of plots, told from a random generator.

Every story keeps its names, places and things to the end, so that a model must carry them as well. The same generator
tells the same stories on every machine and Python.
"""

from __future__ import annotations

import re
from random import Random

HEROES = (
    "bear", "bird", "boy", "cat", "dog", "dragon", "duck", "elephant", "fox", "frog", "girl", "goat", "hedgehog",
    "horse", "king", "lion", "mouse", "owl", "pig", "princess", "rabbit", "robot", "sheep", "snail", "squirrel",
    "tiger", "turtle", "wolf",
)  # fmt: skip
HE = ("Ben", "Tom", "Max", "Sam", "Leo", "Finn", "Oscar", "Jack", "Hugo", "Otto", "Paul", "Theo")
SHE = ("Lily", "Mia", "Anna", "Rosa", "Emma", "Clara", "Nora", "Ella", "Ruby", "Ida", "Zoe", "Maya")
GIRLS, BOYS = ("girl", "princess"), ("boy", "king")
TRAITS = ("little", "young", "small", "kind", "brave", "shy", "clever", "curious", "happy", "quiet", "gentle", "funny")
PLACES = (
    ("in", "a small house"), ("in", "a big forest"), ("near", "a river"), ("on", "a farm"), ("in", "a quiet village"),
    ("by", "the sea"), ("on", "a green hill"), ("in", "an old castle"), ("near", "a lake"), ("in", "a busy town"),
    ("under", "a tall tree"), ("at", "the edge of a garden"),
)  # fmt: skip
THINGS = (
    "red ball", "golden key", "blue kite", "small boat", "silver bell", "warm hat", "green stone", "wooden box",
    "old book", "lamp", "shiny coin", "soft blanket", "little drum", "paper star", "round mirror", "yellow scarf",
)  # fmt: skip
FOODS = ("apple", "carrot", "cake", "pear", "loaf of bread", "bowl of soup", "pie", "cookie", "piece of cheese", "plum")
SPOTS = (
    "behind a big rock", "under a bush", "in the tall grass", "next to the old bridge", "at the top of the hill",
    "under the bed", "in a hollow tree", "beside the path", "near the well", "behind the door",
)  # fmt: skip
WEATHER = (
    "The sun was shining", "It was a cold morning", "It was raining", "The wind was blowing", "The sky was clear",
    "It was a warm day", "Snow was falling", "It was almost dark",
)  # fmt: skip
SKILLS = ("swim", "sing", "read", "dance", "cook", "paint", "write", "play the drum", "climb", "skate")
OPENINGS = (
    "Once upon a time, there was a {trait} {kind} named {name}.",
    "Once upon a time, a {trait} {kind} named {name} lived {place}.",
    "Once upon a time, {place}, there lived a {trait} {kind}. {His} name was {name}.",
    "There once was a {trait} {kind} called {name}.",
    "Long ago, a {trait} {kind} named {name} lived {place}.",
    "{name} was a {trait} {kind}.",
)
HOMES = (
    "{He} lived {place}.",
    "{He} lived {place} with {his} mother.",
    "{name}'s home was {place}.",
    "{He} loved to play {place}.",
)
#: Each plot is a row of moments, each moment told in one of several ways.
PLOTS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("One day, {name} lost {his} {thing}.", "One morning, {name} could not find {his} {thing}."),
        ("{He} looked everywhere, but it was gone.", "{He} looked {spot}, but it was not there."),
        ("{name} was very sad and began to cry.", "{name} felt sad.", "{He} did not know what to do."),
        ("Then a {friend_kind} named {friend} came by.", "{His} friend {friend} the {friend_kind} saw {him}."),
        ('"Why are you sad?" asked {friend}.', '"What is wrong?" {friend} asked.'),
        ('"I lost my {thing}," said {name}.', '"My {thing} is gone," {name} said.'),
        ('"I will help you," said {friend}.', '"Let us look for it together," said {friend}.'),
        ("They looked for a long time.", "They walked and walked.", "They looked in every corner."),
        ("At last, they found the {thing} {other_spot}.", "Then {friend} saw the {thing} {other_spot}."),
        ('"Thank you, {friend}!" said {name}.', "{name} was so happy that {he} gave {friend} a big hug."),
    ),
    (
        ("One day, {name} found a {thing} {spot}.", "{weather} when {name} found a {thing} {spot}."),
        ('"What a nice {thing}!" said {name}.', '"Whose {thing} is this?" {he} asked.'),
        ("{He} wanted to keep it.", "{He} picked it up and took it home."),
        (
            "Soon {he} met {friend} the {friend_kind}, who was crying.",
            "Then {he} saw a sad {friend_kind} named {friend}.",
        ),
        ('"I lost my {thing}," said {friend}.', '"I cannot find my {thing} anywhere," {friend} said.'),
        ("{name} thought about it.", "{name} was quiet for a moment.", "{name} looked at the {thing} again."),
        ('"Here it is," said {name}. "I found it {spot}."', "{He} gave the {thing} back to {friend}."),
        ("{friend} smiled and thanked {him}.", "{friend} was very happy.", '"You are very kind!" said {friend}.'),
        ("From that day on, they were good friends.", "They played together until the sun went down."),
    ),
    (
        ("One day, {name} was very hungry.", "{weather}, and {name} was hungry."),
        ("{He} had only one {food}.", "All {he} had was a {food}.", "{His} mother gave {him} a {food}."),
        (
            "On the way, {he} met a {friend_kind} named {friend}.",
            "Then a {friend_kind} named {friend} came to {his} door.",
        ),
        ('"I am so hungry," said {friend}.', '"I have not eaten all day," {friend} said.'),
        ("{name} looked at the {food}.", "{name} wanted to eat the {food} alone, but {he} felt sorry for {friend}."),
        ('"We can share it," said {name}.', "{He} broke it in two and gave one half to {friend}."),
        ("They sat down and ate together.", "They ate {spot} and talked for a long time."),
        ("The next day, {friend} came back with a big basket of food.", "Later, {friend} gave {name} a {thing}."),
        ('"You shared with me, so now I share with you," said {friend}.', "{name} was surprised and very happy."),
    ),
    (
        ("One night, {name} heard a strange noise.", "{weather} when {name} heard a strange noise."),
        ("{He} was afraid and hid {spot}.", "{He} wanted to run away.", '"Who is there?" {he} asked.'),
        ("The noise came again, and it was louder.", "Nobody answered.", "The noise did not stop."),
        ("{name} took a deep breath and went to look.", "{name} wanted to be brave, so {he} opened {his} eyes."),
        ("It was only a {friend_kind} who had hurt a foot.", "It was only a lost {friend_kind}, who was afraid too."),
        (
            '"Please help me," said the {friend_kind}. "My name is {friend}."',
            '"I am {friend}," the {friend_kind} said.',
        ),
        ("{name} took {friend} home and made a warm bed.", "{name} stayed with {friend} until the morning."),
        ("In the morning, {friend} felt much better.", "Soon {friend} was not afraid any more."),
        ("{name} was proud because {he} had been brave.", "After that, {name} was never afraid of the dark again."),
    ),
    (
        ("{name} wanted to learn how to {skill}.", "More than anything, {name} wanted to {skill}."),
        ("{He} tried and tried, but it was too hard.", "It was very hard, and {he} made many mistakes."),
        ('"I will never learn it," said {name}.', "{name} was angry and sat down {spot}."),
        ("{friend} the {friend_kind} saw {him} and smiled.", "An old {friend_kind} named {friend} came to {him}."),
        ('"Nobody can do it on the first day," said {friend}.', '"You have to try a little every day," {friend} said.'),
        ("So {name} tried again the next day, and the day after.", "So {name} worked a little every morning."),
        ("Slowly it became easier.", "Every day it was a bit easier.", "After a week, {he} was much better."),
        ('"Look, {friend}! I can do it!" {name} said.', "One day {he} could do it all alone."),
        ("Everybody was very proud of {name}.", "{friend} gave {him} a {thing}.", "{name} laughed and danced."),
    ),
    (
        ("One day, {name} went for a walk.", "{weather}, so {name} went for a long walk."),
        ("{He} walked far away from home and lost {his} way.", "{He} walked too far, and soon {he} was lost."),
        ('"Where am I?" {he} asked.', "{He} sat down {spot} and felt alone.", "Everything looked strange."),
        ("Then {he} saw a {friend_kind} with a {thing}.", "Then a {friend_kind} came along with a {thing}."),
        (
            '"My name is {friend}," said the {friend_kind}. "Are you lost?"',
            '"I am {friend}. Can I help you?" it asked.',
        ),
        ('"Yes," said {name}. "I want to go home."', '"I live {place}," said {name}.'),
        ("{friend} knew the way and went with {him}.", '"I know that way," said {friend}. "Come with me."'),
        ("Soon {name} saw {his} home again.", "They walked together until they saw {name}'s home."),
        ('"Thank you, {friend}," said {name}.', "{name} gave {friend} a {food}.", "{friend} waved and went away."),
    ),
    (
        ("{name} and {his} friend {friend} the {friend_kind} both wanted the same {thing}.",),
        ('"It is mine!" said {name}.', '"I saw it first!" said {name}.'),
        ('"No, it is mine!" said {friend}.', '"But I want it too!" {friend} said.'),
        ("They pulled and pulled until the {thing} broke.", "They were so angry that the {thing} fell and broke."),
        ("Now nobody could have it.", "They looked at it and were very quiet.", "They both felt bad."),
        ('"I am sorry," said {name}.', '"We should have shared it," said {name}.'),
        ('"I am sorry too," said {friend}.', '"You are right," {friend} said. "Let us fix it."'),
        ("They worked together, and soon it was like new.", "Together they made a new one, and it was even better."),
        ("After that, they always shared.", "Then they played with it together every day."),
    ),
)
MORALS = (
    "The end.",
    "And they lived happily ever after.",
    "{name} learned that it is good to have a friend.",
    "{name} never forgot that day.",
    "That night, {name} slept very well.",
    "And that is the story of {name} the {kind}.",
)


def story(random: Random, hero: str | None = None) -> str:
    """One story of about 60 to 150 words in a few paragraphs, about `hero` or about anybody."""
    names = _cast(random, hero)
    moments = [random.choice(OPENINGS)]
    if "lived" not in moments[0] and random.random() < 0.6:
        moments.append(random.choice(HOMES))
    plot = [random.choice(ways) for ways in random.choice(PLOTS)]
    ending = [random.choice(MORALS)] if random.random() < 0.7 else []
    cut = random.randint(3, 5)
    parts = (moments, plot[:cut], plot[cut:] + ending)
    return with_articles("\n\n".join(" ".join(part) for part in parts).format_map(names))


def _cast(random: Random, hero: str | None) -> dict[str, str]:
    kind = hero or random.choice(HEROES)
    female = kind in GIRLS or (kind not in BOYS and random.random() < 0.5)
    name = random.choice(SHE if female else HE)
    friend = random.choice([other for other in HE + SHE if other != name])
    friend_kind = random.choice([other for other in HEROES if other not in (kind, *GIRLS, *BOYS)])
    spot, other_spot = random.sample(SPOTS, 2)
    where, what = random.choice(PLACES)
    pronouns = ("she", "her", "her") if female else ("he", "his", "him")
    names = dict(zip(("he", "his", "him"), pronouns, strict=True))
    return names | {
        "He": names["he"].capitalize(),
        "His": names["his"].capitalize(),
        "name": name,
        "kind": kind,
        "trait": random.choice(TRAITS),
        "place": f"{where} {what}",
        "thing": random.choice(THINGS),
        "food": random.choice(FOODS),
        "friend": friend,
        "friend_kind": friend_kind,
        "spot": spot,
        "other_spot": other_spot,
        "skill": random.choice(SKILLS),
        "weather": random.choice(WEATHER),
    }


def with_articles(text: str) -> str:
    """The text with "an" for "a" before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
