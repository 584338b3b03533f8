"""Tokens of text by script."""

# ruff: noqa: RUF001 - other scripts are what it is about

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.gemini import scripts
from gemini_batch.gemini.scripts import UNIT, WEIGHTS, text_tokens, text_tokens_of

HERE = Path(__file__).parent
TEXTS = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(["", "a" * 300, "ж" * 50]), max_size=8
)

# Bytes a token of the tokenizer of Gemma 3, of 2 MB each ("Gemma 3.json", bgub/tokka-bench, August 2025), and a text:
# article 1 of the Universal Declaration of Human Rights.
PUBLISHED = {
    "English": (
        4.36,
        "All human beings are born free and equal in dignity and rights. They are endowed with reason "
        "and conscience and should act towards one another in a spirit of brotherhood.",
    ),
    "German": (
        4.12,
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und "
        "Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    ),
    "French": (
        4.09,
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de "
        "raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    ),
    "Spanish": (
        4.42,
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de "
        "razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
    ),
    "Polish": (
        3.41,
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni "
        "obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    ),
    "Vietnamese": (
        4.68,
        "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi con người đều "
        "được tạo hoá ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình anh em.",
    ),
    "Russian": (
        6.41,
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
        "совестью и должны поступать в отношении друг друга в духе братства.",
    ),
    "Ukrainian": (
        5.50,
        "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і "
        "совістю і повинні діяти у відношенні один до одного в дусі братерства.",
    ),
    "Greek": (
        4.75,
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι "
        "προικισμένοι με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα "
        "αδελφοσύνης.",
    ),
    "Arabic": (
        5.09,
        "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم "
        "بعضا بروح الإخاء.",
    ),
    "Persian": (
        5.16,
        "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند. همه دارای عقل و "
        "وجدان هستند و باید نسبت به یکدیگر با روح برادری رفتار کنند.",
    ),
    "Hebrew": (
        3.82,
        "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה "
        "עליהם לנהוג איש ברעהו ברוח של אחווה.",
    ),
    "Hindi": (
        9.28,
        "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें "
        "बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
    ),
    "Bengali": (
        9.94,
        "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। তাঁদের বিবেক এবং বুদ্ধি "
        "আছে; সুতরাং সকলেরই একে অপরের প্রতি ভ্রাতৃত্বসুলভ মনোভাব নিয়ে আচরণ করা উচিত।",
    ),
    "Tamil": (
        9.69,
        "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும், உரிமைகளிலும் "
        "சமமானவர்கள், அவர்கள் நியாயத்தையும் மனச்சாட்சியையும் இயற்பண்பாகப் பெற்றவர்கள்.",
    ),
    "Thai": (
        7.74,
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
    ),
    "Chinese": (
        3.93,
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    ),
    "Japanese": (
        4.97,
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
        "人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    ),
    "Korean": (
        4.02,
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. "
        "인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
    ),
    "Georgian": (
        5.92,
        "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით. მათ მინიჭებული "
        "აქვთ გონება და სინდისი და ერთმანეთის მიმართ უნდა იქცეოდნენ ძმობის სულისკვეთებით.",
    ),
}


@pytest.mark.parametrize("language", PUBLISHED)
def test_prose_counts_within_a_quarter_of_what_was_measured(language):
    """Four bytes a token, as for English, would be 2.3 times too many for Hindi."""
    bytes_per_token, text = PUBLISHED[language]
    assert text_tokens(text) == pytest.approx(len(text.encode()) / bytes_per_token, rel=0.25)


@pytest.mark.parametrize(
    ("bytes_per_token", "text"),
    [
        (3.52, (HERE / "test_scripts.py").read_text().partition("PUBLISHED = {")[0]),
        (2.78, json.dumps([{"id": 17, "name": "bolt", "price": 0.25, "tags": ["a", "b"]}] * 9, indent=2)),
    ],
)
def test_code_takes_more_tokens_than_prose(bytes_per_token, text):
    """Python and JSON; four bytes a token would be too few."""
    assert text_tokens(text) == pytest.approx(len(text) / bytes_per_token, rel=0.25)
    assert text_tokens(text) > len(text) / 4


def test_each_digit_is_a_token():
    assert text_tokens("20261123") == 8


def slowly(text):
    """By the definition, a character at a time."""
    return max(1, -(-sum(WEIGHTS[letter.encode()[0]] for letter in text) // UNIT))


@given(TEXTS)
def test_a_column_counts_as_its_texts(texts):
    every = [slowly(text) for text in texts]
    assert [text_tokens(text) for text in texts] == every
    assert text_tokens_of(pa.array(texts, pa.string())) == every


@given(TEXTS, st.integers(0, 8), st.integers(0, 8), st.sampled_from([pa.string(), pa.large_string()]))
def test_a_slice_of_a_column_counts_as_its_texts(texts, start, count, kind):
    """Blocks of a manifest are slices of larger ones."""
    column = pa.array(texts, kind).slice(min(start, len(texts)), count)
    assert text_tokens_of(column) == [slowly(text) for text in column.to_pylist()]


@given(TEXTS, st.integers(1, 64))
def test_where_a_stretch_ends_changes_nothing(texts, stretch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "STRETCH_BYTES", stretch)
        assert text_tokens_of(pa.array(texts, pa.string())) == [slowly(text) for text in texts]


def test_nulls_keep_their_place():
    assert len(text_tokens_of(pa.array(["a", None, "b"]))) == 3
    assert text_tokens_of(pa.array([None, None], pa.string())) == [1, 1]
