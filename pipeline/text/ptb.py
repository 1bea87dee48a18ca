"""Penn Treebank tokens of captions, without Java.

The field tokenizes captions and references with CoreNLP 3.4.1's PTBTokenizer, in lower case, and
drops punctuation (pycocoevalcap). This is the same tokenization in Python: at each place the
longest match of a list of rules, with the abbreviations that keep their full stop. It gives the
Java tokenizer's tokens for all captions of Clotho and AudioCaps, and for what people write in any
script, emoji and addresses beside them (tests/test_ptb.py). Some 3 in 1,000 captions with
punctuation thrown at random into their words differ. `evaluate` and `score` use the Java one where
Java is installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

from pipeline.text.ptb_letters import DIGITS, LETTERS, MARKS, SYMBOLS, members

# What pycocoevalcap drops. It lists brackets in upper case, but tokens are lower-case: they stay.
PUNCTUATION = frozenset(PUNCTUATIONS)

_ABBREVIATIONS = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty aug ave bhd bldg blvd brig bros calif "
    "capt cf cie cmdr co col colo conn corp cos cpl ct dak dec dept det dr drs elec ens esq est "
    "etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans "
    "ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb "
    "nev nov oct okla penn pfc ph plc ppte ppty pres prof pte ptes pty ptys pvt rd rep reps rev rt "
    "sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va "
    "vs vt wed wis wisc wm wyo"
)
_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"  # in lower case these are words
# Before these words a single letter loses its stop: a sentence begins
_STARTERS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last "
    "Many More Now Once One Other Our She Since So Some Such That The Their Then There These They "
    "This We What When While Yet You"
)
_BEFORE_NUMBER = "art ca fig figs no nos op pp prop"  # these keep the stop before a digit

_ENTITY = "&[aeiouAEIOU](?:acute|grave|uml);"
_ALPHABETIC, _NUMERIC = members(LETTERS), members(DIGITS)
_LETTER = f"[{_ALPHABETIC}]"
_DIGIT = f"[{_NUMERIC}]"
_ALNUM = f"[{_ALPHABETIC}{_NUMERIC}]"
# of words without hyphens: the first letter, and the others
_IN_WORD = rf"(?:[{_ALPHABETIC}{members(MARKS)}]|{_ENTITY})"
_IN_WORDS = rf"(?:[{_ALPHABETIC}{members(MARKS)}{_NUMERIC}]|{_ENTITY})"
_SOFT_HYPHEN = "\u00ad"  # a place where a word may be broken
_CURLY = r"[’\u0092]"
_APOSTROPHE = r"['’\u0092]"
_QUOTE_IN_WORD = r"['’\u0092`\u0091‘‛]"  # what may stand for an apostrophe within a word

Text = Callable[["re.Match[str]"], str]


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    text: Text  # the token, or several with spaces between


def _as_is(match: re.Match[str]) -> str:
    """The match, or its one group: what follows the group only makes the match longer."""
    return match.group(match.lastindex or 0)


def _straight(match: re.Match[str]) -> str:
    return re.sub("[‘\u0091]", "`", re.sub(_APOSTROPHE, "'", match.group()))


def _always(token: str) -> Text:
    return lambda match: token


def _rule(pattern: str, text: Text = _as_is, flags: int = 0) -> _Rule:
    return _Rule(re.compile(pattern, flags), text)


def _words(words: str) -> str:
    return "|".join(sorted(words.split(), key=len, reverse=True))


_CLITIC = r"(?:[msdMSD]|re|RE|ve|VE|ll|LL)"
_HYPHEN = "[-_\u058a\u2010\u2011]"
_JOINT = f"[.,:\u066b\u066c]{_DIGIT}+"  # within a number
_NUMBER = rf"(?:[-+]?{_DIGIT}+(?:{_JOINT})*|[-+]?(?:{_JOINT})+)"
_THING = rf"{_ALNUM}+(?:{_HYPHEN}{_ALNUM}+)*"
_ASCII_THING = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_FRACTION = rf"(?:{_DIGIT}{{1,4}}[- ])?{_DIGIT}{{1,4}}[/⁄]{_DIGIT}{{1,4}}"
_DATE = rf"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}"
_NOT_IN_NAME = r"[^\s\"<>|.!?(){},"
_SPLIT = "cannot gonna gotta gimme lemme wanna"  # after the third letter
_DROPPED_G = "dunkin somethin ol"
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SYMBOLS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"} | {
    "€": "$", "₠": "$", "¤": "$", "\u0080": "$", "£": "#", "¢": "cents",
    "«": "``", "»": "''", "‹": "`", "›": "'"
}  # fmt: skip


def _unbracketed(match: re.Match[str]) -> str:
    return "".join(_BRACKETS.get(letter, letter) for letter in match.group())


def _smiley(match: re.Match[str]) -> str:
    return match.group().replace("(", "-lrb-").replace(")", "-rrb-")


@cache
def _rules() -> tuple[_Rule, ...]:
    """Among matches of one length, the first rule wins. They take a moment to compile."""
    return (
        _rule(r"</?[A-Za-z!][^<>\s]*>"),
        _rule(
            rf"(?:{_words(_SPLIT)})(?!{_ALNUM})",
            lambda match: f"{match.group()[:3]} {match.group()[3:]}",
            re.IGNORECASE,
        ),
        _rule(r"('t)(?:is|was)", flags=re.IGNORECASE),
        _rule(rf"({_LETTER}*?[A-MO-Za-mo-z])[nN]{_QUOTE_IN_WORD}[tT]"),
        _rule(rf"[nN]{_QUOTE_IN_WORD}[tT]{_ALNUM}*", _straight),
        _rule(rf"'{_CLITIC}(?![A-Za-z])|{_CURLY}{_CLITIC}", _straight),
        _rule(rf"({_IN_WORD}{_IN_WORDS}*){_APOSTROPHE}{_CLITIC}(?![A-Za-z])"),
        _rule(rf"(?:[dlnoDLNO]{_APOSTROPHE}{_LETTER}|[A-HJ-XZ]{_APOSTROPHE}[a-z]){_ALNUM}*"),
        _rule(rf"[dloDLO]{_QUOTE_IN_WORD}{_ALNUM}+"),
        _rule(rf"{_LETTER}+[aeiouyAEIOUY]{_QUOTE_IN_WORD}[aeiouA-Z]{_LETTER}*"),
        _rule(rf"({_LETTER}{_ALNUM}+\.)[,;:]"),
        _rule(rf"(?:{_words(_DROPPED_G)}){_APOSTROPHE}", flags=re.IGNORECASE),
        _rule(
            rf"[mM]a{_APOSTROPHE}am|c(?:'mon|{_APOSTROPHE}est)|cap{_APOSTROPHE}n",
            flags=re.IGNORECASE,
        ),
        _rule(r"ev'ry|e'er|li'l|nat'l|j['’]", flags=re.IGNORECASE),
        _rule(rf"([yY]{_APOSTROPHE}){_LETTER}"),
        _rule(
            rf"{_APOSTROPHE}(?:n{_APOSTROPHE}|n(?!{_ALNUM})|em|till?|cause|[2-9]0s)|{_CURLY}n",
            flags=re.IGNORECASE,
        ),
        _rule(rf"{_APOSTROPHE}[0-9][0-9](?= |$)"),
        _rule(rf"{_IN_WORD}{_IN_WORDS}*(?:[.!?]{_IN_WORD}{_IN_WORDS}*)*"),
        _rule(rf"[A-Za-z](?:\.[A-Za-z])+\.(?!{_ALNUM})"),
        _rule(r"[A-Za-z]\."),
        _rule(rf"([A-Za-z])\. (?:{_words(_STARTERS)})(?: |$)"),
        _rule(rf"(?:Ed|Ph)\.D\.(?!{_ALNUM})", flags=re.IGNORECASE),
        _rule(r"[cC]\+\+|[cCfF]#"),
        _rule(  # a telephone number
            r"(?:\([0-9]{2,3}\) ?|\+{0,2}(?:[0-9]{2,4}[- ])?[0-9]{2,4}[- ])"
            r"[0-9]{3,4}[- ]?[0-9]{3,5}",
            _unbracketed,
        ),
        _rule(rf"(?:{_words(_ABBREVIATIONS)})\.(?!{_ALNUM})", flags=re.IGNORECASE),
        _rule(rf"(?:{_words(f'{_CAPITALISED} {_CAPITALISED.upper()}')})\.(?!{_ALNUM})"),
        _rule(rf"(?:{_words(_BEFORE_NUMBER)})\.(?=\s*\d)", flags=re.IGNORECASE),
        _rule(_NUMBER),
        _rule(f"{_FRACTION}|{_DATE}"),
        _rule("[⁰¹²³⁴-⁹]+|[₀-₉]+"),
        _rule(_THING),
        _rule(rf"{_ASCII_THING}(?:/{_ASCII_THING}){{1,2}}"),
        _rule(r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z0-9]+|(?:[A-Za-z]\.)+))+"),
        _rule(r"[A-Z]+(?:(?:[&+]|&amp;)[A-Z]+)+", lambda m: m.group().replace("&amp;", "&")),
        _rule(r"https?://[^\s\"<>|(){}]+[^\s\"<>|.!?(){},-]"),
        _rule(
            rf"(?:www\.(?:{_NOT_IN_NAME}]+\.)+[A-Za-z]{{2,4}}"
            rf"|(?:{_NOT_IN_NAME}`',-_$]+\.)+(?:com|net|org|edu))"
            r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?"
        ),
        _rule(r"[A-Za-z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<>|(){}\[\].,;:]+"),
        _rule(rf"@[A-Za-z_][A-Za-z_0-9]*|#{_IN_WORD}+"),
        _rule(r"[A-Z]+\$"),
        _rule(r"\.{3,}|…|\.(?: \.){2,}", _always("...")),
        _rule(r"-{2,}|[–—―]", _always("--")),
        _rule(r"[?!]{2,}|\*{2,}|_{2,}|#{2,}|@{2,}"),
        _rule(r"[<>]?[:;=][-o*']?[(){@|\[\]DPdpO](?![A-Za-z0-9])", _smiley),
        _rule(r"&(?:amp|AMP);", _always("&")),
        _rule(r"&(?:lt|LT);", _always("<")),
        _rule(r"&(?:gt|GT);", _always(">")),
        _rule(r"&(?:#[0-9]+|QUOT);"),
        _rule(r"&(?:quot|nbsp|NBSP);", _always("``")),  # dropped, as quotes and spaces are
        _rule(r"``|“|\"(?=[A-Za-z0-9$])", _always("``")),
        _rule(r"''|”|\"", _always("''")),
        _rule(r"[‘`]|'(?=[A-Za-z])", _always("`")),
        _rule(r"['’\u0092]", _always("'")),
        _rule(r"[][(){}]", _unbracketed),
        _rule(f"[{''.join(_SYMBOLS)}]", lambda match: _SYMBOLS[match.group()]),
        _rule(f"[{members(SYMBOLS)}]"),
    )


# Nearly all captions are lower-case words with commas and a full stop, and need none of the rules.
_PLAIN = re.compile(r"[A-Za-z]{2,}(?:,? (?:[A-Za-z]{2,}|a|A))*\.?")
_SPLIT_WORDS = frozenset(_SPLIT.split())
_STOPPED = frozenset(f"{_ABBREVIATIONS} {_CAPITALISED}".lower().split())  # they keep their stop


def ptb_tokens(caption: str) -> list[str]:
    """The lower-case tokens of one caption, without punctuation; possibly none."""
    line = " ".join(caption.replace(_SOFT_HYPHEN, "").split())
    if _PLAIN.fullmatch(line):
        words = line.replace(",", "").removesuffix(".").lower().split(" ")
        stopped = line.endswith(".") and words[-1] in _STOPPED
        if not stopped and _SPLIT_WORDS.isdisjoint(words):
            return words
    return [token for token in _lex(line) if token not in PUNCTUATION]


def tokenize(captions: Iterable[str]) -> list[str]:
    """Each caption as its tokens joined by single spaces, which is what metrics read."""
    return [" ".join(ptb_tokens(caption)) for caption in captions]


def _lex(line: str) -> list[str]:
    """All tokens, in lower case: the longest match at each place."""
    tokens: list[str] = []
    at = 0
    while at < len(line):
        if line[at] == " ":
            at += 1
            continue
        matches = [(rule.pattern.match(line, at), rule) for rule in _rules()]
        found = [(match, rule) for match, rule in matches if match and match.end() > at]
        if not found:
            at += 1  # what the program does not know
            continue
        match, rule = max(found, key=lambda pair: pair[0].end())
        tokens += rule.text(match).lower().split(" ")
        at = match.end(match.lastindex or 0)
    return tokens
