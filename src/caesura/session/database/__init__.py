"""Where sessions are stored: a database of one of two kinds, behind one interface."""

from caesura.session.database.database import Backend, Connection, Database
from caesura.session.database.statements import Check, Row, Statement

__all__ = ["Backend", "Check", "Connection", "Database", "Row", "Statement"]
