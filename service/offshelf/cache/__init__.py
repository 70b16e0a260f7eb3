"""Features by the content they were computed from: kept while there is room, lost without harm."""
