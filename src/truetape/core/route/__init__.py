"""From bytes judged to consumers served: the pump, the topics, and the mailboxes with their ways of delivery and their ledgers."""
