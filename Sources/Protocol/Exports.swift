// Who reads messages reads their identifiers.
@_exported public import Identifiers
