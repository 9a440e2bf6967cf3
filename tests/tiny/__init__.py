"""Tiny models and tokenizers built from configs, with nothing downloaded."""
