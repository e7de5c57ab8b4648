"""The one owner of persistent state: tables, sessions and the functions that read and write them."""
