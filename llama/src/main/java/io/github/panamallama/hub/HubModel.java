package io.github.panamallama.hub;

import java.util.Locale;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * The name of a model on the hub: {@code owner/repository}, with {@code :QUANT} where one of its quantisations is meant, for instance
 * {@code ggml-org/Qwen2.5-Coder-1.5B-Q8_0-GGUF} or {@code bartowski/Qwen2.5-Coder-7B-Instruct-GGUF:Q5_K_M}. In place of the quantisation
 * the name of a file may stand, {@code owner/repository:folder/model.gguf}.
 *
 * @param owner user or organisation
 * @param name  of the repository
 * @param quant in capitals, or the path of a file; empty for the usual choice
 */
public record HubModel(String owner, String name, Optional<String> quant) {
    private static final Pattern PART = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,95}");
    private static final Pattern QUANT = Pattern.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}");

    public HubModel {
        if (!isPart(owner) || !isPart(name)) {
            throw new IllegalArgumentException("'" + owner + "/" + name + "' is no name of a model; it is owner/repository or "
                    + "owner/repository:QUANT, of letters, digits, '.', '_' and '-'");
        }
        if (quant.isPresent() && !QUANT.matcher(quant.get()).matches() && !(isFile(quant.get()) && RepositoryFile.isSafe(quant.get()))) {
            throw new IllegalArgumentException("'" + quant.get() + "' is no quantisation such as Q4_K_M, and no name of a .gguf file");
        }
        quant = quant.map(text -> isFile(text) ? text : text.toUpperCase(Locale.ROOT));
    }

    private static boolean isPart(String text) {
        return PART.matcher(text).matches() && !text.contains("..") && !text.endsWith(".");
    }

    private static boolean isFile(String text) {
        return text.endsWith(".gguf");
    }

    /** @throws IllegalArgumentException if that is no such name */
    public static HubModel parse(String text) {
        int slash = text.indexOf('/');
        int colon = text.indexOf(':');
        if (slash < 0 || colon >= 0 && colon < slash) {
            throw new IllegalArgumentException("'" + text + "' is no name of a model; it is owner/repository or owner/repository:QUANT");
        }
        return colon < 0
                ? new HubModel(text.substring(0, slash), text.substring(slash + 1), Optional.empty())
                : new HubModel(text.substring(0, slash), text.substring(slash + 1, colon), Optional.of(text.substring(colon + 1)));
    }

    /** Whether {@link #parse} takes it. A name that ends in {@code .gguf} and has no colon is a file's, not a model's. */
    public static boolean isName(String text) {
        if (isFile(text) && text.indexOf(':') < 0) {
            return false;
        }
        try {
            parse(text);
            return true;
        } catch (IllegalArgumentException e) {
            return false;
        }
    }

    HubModel withQuant(String other) {
        return new HubModel(owner, name, Optional.of(other));
    }

    /** Without the quantisation. */
    String repository() {
        return owner + "/" + name;
    }

    /** The file that is meant, if one is. */
    Optional<String> file() {
        return quant.filter(HubModel::isFile);
    }

    @Override
    public String toString() {
        return quant.map(text -> repository() + ":" + text).orElse(repository());
    }
}
