"""Questions about documented types and methods of a Java file, answered by the first sentences of their Javadoc."""
import html
import re

DECLARATION = re.compile(r"/\*\*(?P<doc>(?:[^*]|\*(?!/))*)\*/\s*(?:@\w[\w.]*(?:\([^()]*\))?\s+)*(?P<code>[^;{}=@/\"]{6,300}?)\s*[;{=]")
TYPE = re.compile(r"\b(class|interface|enum|record) (\w+)")
METHOD = re.compile(r"(\w+) ?\(([^()]*)\)")
ABOUT_TYPE = ["What is the {kind} `{name}` for?", "What does {name} do?", "Explain the {kind} `{name}`.", "What is {name}?",
              "Describe the Java {kind} {name} in a sentence."]
ABOUT_METHOD = ["What does the method `{name}` of `{owner}` do?", "What does {owner}.{name} do?", "Explain `{owner}.{name}`.",
                "Describe the method `{name}({types})` of {owner}.", "What is `{name}` in {owner} for?",
                "Write a short Javadoc for `{code}` in `{owner}`."]
ABOUT_CODE = ["Which method of `{owner}` does this: {answer}", "Show the declaration of `{name}` in `{owner}`."]


def code(match):
    return f"`{(match[1] or match[2] or '').strip()}`"


def linked(match):
    name = re.match(r"\s*#?([\w.#]+(?:\([^)]*\))?)", match[1])
    return f"`{name[1].replace('#', '.')}`" if name else ""


def sentences(comment):
    """The first sentences of a Javadoc comment, at most about 220 characters, as Markdown; empty if there is nothing to say."""
    text = re.sub(r"^\s*\* ?", "", comment, flags=re.M)
    text = re.split(r"^\s*@\w|<(?:pre|ul|ol|table|dl|h\d)\b", text, flags=re.M | re.I)[0]
    text = next((part for part in re.split(r"</?p\b[^>]*>", text, flags=re.I) if part.strip()), "")
    text = re.sub(r"\{@(?:code|literal|value) ([^{}]*)\}|<code>(.*?)</code>", code, text, flags=re.S)
    text = re.sub(r"\{@link(?:plain)? ([^{}]+)\}", linked, text)
    text = " ".join(html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", text)).split())
    if re.search(r"\{@|TODO|^@|^see\b", text, re.I) or text.count("`") % 2:
        return ""
    first, *more = re.split(r"(?<=[.!?]) (?=[A-Z`])", text)
    for sentence in more[:2]:
        if len(first) + len(sentence) > 220:
            break
        first += " " + sentence
    if not 25 <= len(first) <= 400:
        return ""
    return first[0].upper() + first[1:] + ("" if first[-1] in ".!?:" else ".")


def questions(text, owner, random):
    """[(question, answer)] about the file of the type `owner`."""
    pairs = []
    for match in DECLARATION.finditer(text):
        answer, code = sentences(match["doc"]), re.sub(r" throws .*", "", " ".join(match["code"].split()))
        kind, method = TYPE.search(code), METHOD.search(code)
        if not answer:
            continue
        if kind:
            pairs.append((random.choice(ABOUT_TYPE).format(kind=kind[1], name=kind[2]), answer))
        elif method and method[1] != owner:
            types = ", ".join(part.removeprefix("final ").rpartition(" ")[0] for part in method[2].split(", ")) if method[2] else ""
            words = dict(owner=owner, name=method[1], types=types, code=code, answer=answer)
            if random.random() < 0.12:
                pairs.append((random.choice(ABOUT_CODE).format(**words), f"```java\n{code}\n```"))
            else:
                pairs.append((random.choice(ABOUT_METHOD).format(**words), answer))
    return pairs
