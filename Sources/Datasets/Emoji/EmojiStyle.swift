internal import Raster

/// Who drew the pictures of an emoji data set. Captions and their division into lists are the same in every style.
public enum EmojiStyle: String, Sendable, CaseIterable {
    /// Google's Noto Color Emoji (SIL Open Font License 1.1): what the shipped base model was trained on.
    case noto
    /// EmojiOne of 2014 (Ranks.com Inc., CC BY-SA 4.0): other shapes and shades for most of the same captions.
    case emojione

    /// Debian's and Ubuntu's package that has the pictures.
    public var package: String {
        switch self {
        case .noto: "fonts-noto-color-emoji"
        case .emojione: "ruby-gemojione"
        }
    }

    /// Where the package puts them: a font, or a folder of PNG files named by code points.
    public var defaultPictures: String {
        switch self {
        case .noto: EmojiFont.defaultPath
        case .emojione: "/usr/share/rubygems-integration/all/gems/gemojione-3.3.0/assets/png"
        }
    }

    /// Opens a style's pictures.
    ///
    /// - Throws: `DatasetError`: `missingPictures` with the package to install, or that they are damaged.
    func open(_ path: String) throws(DatasetError) -> any EmojiPictures {
        switch self {
        case .noto: try EmojiFont(path: path)
        case .emojione: try EmojiFolder(path: path, package: package)
        }
    }
}

/// A picture of every emoji.
protocol EmojiPictures: Sendable {
    /// Where they are.
    var path: String { get }
    /// Tells these pictures from others.
    var fingerprint: String { get }
    /// Code points that have a picture, ascending.
    var scalars: [Unicode.Scalar] { get }
    /// The picture of one of `scalars`, on white, at most `EmojiRendering.canvasSide` a side.
    ///
    /// - Throws: `DatasetError` where it is damaged.
    func picture(of scalar: Unicode.Scalar) throws(DatasetError) -> RGBImage
}
