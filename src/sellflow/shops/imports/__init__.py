"""Brings in what a shop had before it installed the app: its customers, and its orders where the merchant wants."""
