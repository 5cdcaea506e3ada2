"""The tables of the embedded index. Never read or written from here."""

from __future__ import annotations

from penstock.search.engines.words import TOKENIZER

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS indexed_document (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT,
    content TEXT NOT NULL,
    metadata TEXT NOT NULL,
    sequence INTEGER NOT NULL
);
-- Contentless: the text is in indexed_document already.
CREATE VIRTUAL TABLE IF NOT EXISTS indexed_text USING fts5 (
    title, content, content='', contentless_delete=1, tokenize='{" ".join(TOKENIZER)}'
);
-- Which words stand in how many documents, read from the index above: for comparing two of them.
CREATE VIRTUAL TABLE IF NOT EXISTS indexed_word USING fts5vocab (indexed_text, 'row');
-- One row for each document: where its passages start, int64, and their vectors, float32, each
-- little-endian and one after the other.
CREATE TABLE IF NOT EXISTS indexed_passages (
    document INTEGER PRIMARY KEY,
    starts BLOB NOT NULL,
    vectors BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS indexed_field (
    path TEXT NOT NULL,
    kind TEXT NOT NULL,
    value NOT NULL,
    listed INTEGER NOT NULL,
    document INTEGER NOT NULL,
    PRIMARY KEY (path, kind, value, listed, document)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS indexed_field_of_document ON indexed_field (document);
-- What changed, for those who hold vectors in memory. A change that was rolled back leaves its
-- number to another one, but not its token.
CREATE TABLE IF NOT EXISTS index_change (
    number INTEGER PRIMARY KEY,
    token INTEGER NOT NULL DEFAULT (random()),
    document INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS index_embedder (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    dimension INTEGER NOT NULL
);
"""
