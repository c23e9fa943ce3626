package io.github.panamallama.hub;

import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * A file of a repository, as the listing tells it.
 *
 * @param path   relative to the repository, safe to be one below a local folder
 * @param size   bytes
 * @param sha256 of the content, hexadecimal; null for a small file that is kept in git itself
 * @param blob   git's hash of the content, SHA-1 of a header and the content; null where {@code sha256} is known
 */
record RepositoryFile(String path, long size, String sha256, String blob) {
    private static final Pattern SPLIT = Pattern.compile("(.+)-(\\d{5})-of-(\\d{5})\\.gguf");
    private static final Pattern TAG = Pattern.compile("(?i)(?:^|[-._/])((?:UD-)?(?:I?Q\\d|TQ\\d|S24_|MXFP|NVFP|B?F16|F32)\\w*)(?=[-.]|$)");
    /** Models for other purposes, which lie beside the one that writes text; the same names as in llama.cpp's choice. */
    private static final Pattern SIDE = Pattern.compile(".*(mmproj|imatrix|mtp-|eagle3-|dflash-|dspark-)[^/]*");
    private static final int LONGEST_NAME = 255;

    /** Whether a path from elsewhere stays below the folder that it is put in, on every platform. */
    static boolean isSafe(String path) {
        for (var part : path.split("/", -1)) {
            boolean plain = part.chars().allMatch(c -> c > ' ' && c != 0x7F && "\\:*?\"<>|".indexOf(c) < 0);
            if (part.isEmpty() || !plain || part.startsWith(".") || part.endsWith(".")
                    || part.getBytes(StandardCharsets.UTF_8).length > LONGEST_NAME) {
                return false;
            }
        }
        return true;
    }

    boolean isModel() {
        return path.endsWith(".gguf") && !SIDE.matcher(path.substring(path.lastIndexOf('/') + 1)).matches();
    }

    /** Number of this part of a split model, from 1; 1 for a whole one. */
    int part() {
        var split = SPLIT.matcher(path);
        return split.matches() ? Integer.parseInt(split.group(2)) : 1;
    }

    /** Parts of the split model; 1 for a whole one. */
    int parts() {
        var split = SPLIT.matcher(path);
        return split.matches() ? Integer.parseInt(split.group(3)) : 1;
    }

    /** The path without part number and ending. */
    String stem() {
        var split = SPLIT.matcher(path);
        return split.matches() ? split.group(1) : path.substring(0, path.length() - ".gguf".length());
    }

    /** The path of another part of the same split model. */
    String pathOfPart(int number) {
        return String.format(Locale.ROOT, "%s-%05d-of-%05d.gguf", stem(), number, parts());
    }

    /** Whether the quantisation stands in the name as a word, or in the name of a folder. */
    boolean is(String quant) {
        return Pattern.compile("(?i)(^|[^a-z0-9_])" + Pattern.quote(quant) + "([^a-z0-9_]|$)").matcher(stem()).find();
    }

    /** The quantisation that the name tells, in capitals. */
    Optional<String> quant() {
        var tag = TAG.matcher(stem());
        return tag.results().map(found -> found.group(1).toUpperCase(Locale.ROOT)).reduce((first, last) -> last);
    }

    /** What tells this content from every other. */
    String contentId() {
        return sha256 != null ? sha256 : blob;
    }
}
