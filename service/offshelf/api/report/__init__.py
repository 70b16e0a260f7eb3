"""The report on a head: put together from the store, and as one page that stands on its own."""
