"""Documents as people have them, made by hand: PDF, Word and e-books."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_HEAD = "%PDF-1.4\n"


def write_pdf(path: Path, pages: Sequence[str], *, password: str | None = None) -> Path:
    """A PDF of pages of one line each; an empty text is a page with nothing to read, as a scan."""
    path.write_bytes(_pdf(pages))
    if password is not None:
        from pypdf import PdfWriter

        writer = PdfWriter(clone_from=path)
        writer.encrypt(password, algorithm="RC4-128")
        writer.write(path)
    return path


def write_docx(path: Path, paragraphs: Sequence[str]) -> Path:
    """A Word file; a tab in a paragraph is one."""
    written = "".join(
        "<w:p><w:r><w:t>" + one.replace("\t", "</w:t><w:tab/><w:t>") + "</w:t></w:r></w:p>"
        for one in paragraphs
    )
    document = f'<w:document xmlns:w="{_WORD}"><w:body>{written}</w:body></w:document>'
    return _zip(path, {"word/document.xml": document})


def write_epub(path: Path, chapters: Sequence[str]) -> Path:
    """A book whose files are named the other way round than they are read."""
    names = [f"c{len(chapters) - number}.xhtml" for number in range(len(chapters))]
    items = "".join(f'<item id="i{n}" href="{n}"/>' for n in names)
    order = "".join(f'<itemref idref="i{n}"/>' for n in names)
    opf = "http://www.idpf.org/2007/opf"
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    members = {
        "META-INF/container.xml": f'<container xmlns="{container}"><rootfiles>'
        '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        "OPS/book.opf": f'<package xmlns="{opf}"><manifest>{items}</manifest>'
        f"<spine>{order}</spine></package>",
    }
    for name, text in zip(names, chapters, strict=True):
        head = "<head><title>书</title></head>"
        members[f"OPS/{name}"] = f"<html>{head}<body><p>{text}</p></body></html>"
    return _zip(path, members)


def _zip(path: Path, members: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in members.items():
            packed.writestr(name, text)
    return path


def _pdf(pages: Sequence[str]) -> bytes:
    """Characters are numbers of a font and a map says which, as in most PDFs of Chinese."""
    letters = sorted(set("".join(pages)))
    numbers = {letter: f"{number:04X}" for number, letter in enumerate(letters, start=1)}
    lines = "\n".join(f"<{numbers[one]}> <{one.encode('utf-16-be').hex()}>" for one in letters)
    font_map = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n1 begincodespacerange\n"
        f"<0000> <FFFF>\nendcodespacerange\n{len(letters)} beginbfchar\n{lines}\nendbfchar\n"
        "endcmap end end"
    )
    first = 7
    places = [first + 2 * number for number in range(len(pages))]
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{n} 0 R' for n in places)}] >>",
        "<< /Type /Font /Subtype /Type0 /BaseFont /Song /Encoding /Identity-H "
        "/DescendantFonts [4 0 R] /ToUnicode 6 0 R >>",
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Song /CIDSystemInfo << /Registry (Adobe) "
        "/Ordering (Identity) /Supplement 0 >> /FontDescriptor 5 0 R /DW 1000 >>",
        "<< /Type /FontDescriptor /FontName /Song /Flags 4 >>",
        _stream(font_map),
    ]
    for place, text in zip(places, pages, strict=True):
        shown = "".join(numbers[one] for one in text)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {place + 1} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(_stream(f"BT /F1 12 Tf 50 700 Td <{shown}> Tj ET" if text else ""))
    return _with_table(objects)


def _stream(text: str) -> str:
    return f"<< /Length {len(text)} >>\nstream\n{text}\nendstream"


def _with_table(objects: Sequence[str]) -> bytes:
    written = io.BytesIO()
    written.write(_HEAD.encode())
    places = []
    for number, one in enumerate(objects, start=1):
        places.append(written.tell())
        written.write(f"{number} 0 obj\n{one}\nendobj\n".encode())
    start = written.tell()
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    written.write(
        f"xref\n0 {size}\n0000000000 65535 f \n{rows}trailer\n<< /Size {size} /Root 1 0 R >>\n"
        f"startxref\n{start}\n%%EOF\n".encode()
    )
    return written.getvalue()
