internal import CYAML

/// Why a text is not YAML.
struct YAMLError: Error {
    /// Where, counted from 1; nil where that is not known.
    let line: Int?
    /// What is wrong, in libyaml's words where they are its.
    let message: String
}

/// A node of a YAML document, read by libyaml. Types of scalars are left to who reads them.
///
/// An alias is the node that it names, and children are looked up when they are asked for: a document that repeats or contains
/// itself takes no more memory than its text.
struct YAMLNode {
    /// What a node holds.
    enum Content {
        /// A text, and whether it was written without quotes.
        case scalar(String, isPlain: Bool)
        /// A list.
        case sequence([YAMLNode])
        /// Keys with values, in the text's order; no two keys are the same text.
        case mapping([(key: YAMLNode, value: YAMLNode)])

        /// A scalar's text, quoted or not; nil for lists and mappings.
        var text: String? {
            guard case .scalar(let text, _) = self else { return nil }
            return text
        }
    }

    private let document: YAMLDocument
    private let node: UnsafeMutablePointer<yaml_node_t>

    private init?(_ document: YAMLDocument, _ node: UnsafeMutablePointer<yaml_node_t>?) {
        guard let node else { return nil }
        self.document = document
        self.node = node
    }

    /// The root of a text's only document; nil for a text without any.
    ///
    /// - Throws: also for a second document, and for a key that a mapping has twice.
    static func parse(_ text: String) throws(YAMLError) -> YAMLNode? {
        let document = try YAMLDocument.only(in: text)
        var index: Int32 = 1
        while let node = YAMLNode(document, yaml_document_get_node(document.contents, index)) {
            try node.refuseRepeatedKeys()
            index += 1
        }
        return YAMLNode(document, document.root)
    }

    /// The line on which the node begins, counted from 1.
    var line: Int { Int(node.pointee.start_mark.line) + 1 }

    /// What the node holds.
    var content: Content {
        let data = node.pointee.data
        switch node.pointee.type {
        case YAML_SEQUENCE_NODE:
            let items = data.sequence.items
            return .sequence(UnsafeBufferPointer(start: items.start, count: items.top - items.start).compactMap(child))
        case YAML_MAPPING_NODE:
            let pairs = UnsafeBufferPointer(
                start: data.mapping.pairs.start, count: data.mapping.pairs.top - data.mapping.pairs.start)
            return .mapping(
                pairs.compactMap { pair in
                    guard let key = child(pair.key), let value = child(pair.value) else { return nil }
                    return (key, value)
                })
        default:
            let bytes = UnsafeBufferPointer(start: data.scalar.value, count: data.scalar.length)
            return .scalar(
                String(decoding: bytes, as: UTF8.self), isPlain: data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        }
    }

    private func child(_ index: Int32) -> YAMLNode? {
        YAMLNode(document, yaml_document_get_node(document.contents, index))
    }

    private func refuseRepeatedKeys() throws(YAMLError) {
        guard case .mapping(let pairs) = content else { return }
        var seen: Set<String> = []
        for (key, _) in pairs {
            guard let name = key.content.text, !seen.insert(name).inserted else { continue }
            throw YAMLError(line: key.line, message: "the same key is written twice: \(name)")
        }
    }
}

/// What libyaml keeps of a document, freed with the last of its nodes.
private final class YAMLDocument {
    let contents = UnsafeMutablePointer<yaml_document_t>.allocate(capacity: 1)

    /// The first node; nil at the text's end, where there is no other document.
    var root: UnsafeMutablePointer<yaml_node_t>? { yaml_document_get_root_node(contents) }

    /// Reads the next document.
    private init(from parser: UnsafeMutablePointer<yaml_parser_t>) throws(YAMLError) {
        contents.initialize(to: yaml_document_t())
        guard yaml_parser_load(parser, contents) == 1 else {
            let problem = parser.pointee.problem.map { String(cString: $0) } ?? "memory is short"
            let isPlaceKnown = [YAML_SCANNER_ERROR, YAML_PARSER_ERROR, YAML_COMPOSER_ERROR].contains(
                parser.pointee.error)
            throw YAMLError(
                line: isPlaceKnown ? Int(parser.pointee.problem_mark.line) + 1 : nil, message: "not YAML: \(problem)")
        }
    }

    deinit {
        yaml_document_delete(contents)
        contents.deallocate()
    }

    /// A text's first document, which no other may follow.
    static func only(in text: String) throws(YAMLError) -> YAMLDocument {
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else { throw YAMLError(line: nil, message: "memory is short") }
        defer { yaml_parser_delete(parser) }
        // The zero, which is not counted, gives an empty text an address.
        let bytes = Array(text.utf8) + [0]
        return try bytes.withUnsafeBufferPointer { (bytes) throws(YAMLError) in
            yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
            yaml_parser_set_input_string(parser, bytes.baseAddress, bytes.count - 1)
            let first = try YAMLDocument(from: parser)
            guard first.root != nil else { return first }
            let second = try YAMLDocument(from: parser)
            guard second.root == nil else {
                let line = Int(second.contents.pointee.start_mark.line) + 1
                throw YAMLError(line: line, message: "a second document begins; keep one")
            }
            return first
        }
    }
}
