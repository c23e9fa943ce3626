package io.github.panamallama.hub;

import io.github.panamallama.models.DefaultModel;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;

/**
 * Where models come from and go to.
 *
 * @param endpoint     address of the hub or of a mirror
 * @param token        sent to the endpoint's host and to no other; null for none
 * @param folder       cache folder of the models
 * @param retries      tries in a row after a connection that broke, none of which brings a byte
 * @param pause        before the first retry; it doubles with each further one
 * @param stallTimeout longest time without a byte before a connection counts as broken
 */
public record HubOptions(URI endpoint, String token, Path folder, int retries, Duration pause, Duration stallTimeout) {
    /** The hub itself. */
    public static final URI HUGGING_FACE = URI.create("https://huggingface.co");

    public HubOptions {
        var scheme = endpoint.getScheme();
        if (scheme == null || !(scheme.equals("https") || scheme.equals("http")) || endpoint.getHost() == null
                || endpoint.getUserInfo() != null || endpoint.getQuery() != null || endpoint.getFragment() != null) {
            throw new IllegalArgumentException("the endpoint is " + endpoint + "; it must be an address such as " + HUGGING_FACE);
        }
        if (token != null && (token.isBlank() || !token.chars().allMatch(c -> c > ' ' && c < 0x7F))) {
            throw new IllegalArgumentException("the token is empty or holds characters that no token has");
        }
        if (token != null && scheme.equals("http") && !isLoopback(endpoint.getHost())) {
            throw new IllegalArgumentException("a token is set, and " + endpoint + " would get it unencrypted; use https, or unset "
                    + "HF_TOKEN");
        }
        if (retries < 0 || pause.isNegative() || stallTimeout.isNegative() || stallTimeout.isZero()) {
            throw new IllegalArgumentException("retries is " + retries + ", pause " + pause + ", stallTimeout " + stallTimeout
                    + "; none may be negative, and the last not 0");
        }
    }

    private static boolean isLoopback(String host) {
        return host.equals("localhost") || host.equals("[::1]") || host.matches("127(\\.\\d{1,3}){3}");
    }

    /** What {@link #of} makes of the environment of this process. */
    public static HubOptions defaults() {
        return of(System.getenv());
    }

    /**
     * {@code HF_ENDPOINT} and {@code HF_TOKEN}, as the hub's own tools know them, and the folder {@code hub} in the cache folder of this
     * project; five retries, a second before the first; a minute without a byte.
     */
    public static HubOptions of(Map<String, String> environment) {
        var endpoint = environment.getOrDefault("HF_ENDPOINT", "");
        var token = environment.getOrDefault("HF_TOKEN", "").strip();
        try {
            return new HubOptions(endpoint.isBlank() ? HUGGING_FACE : new URI(endpoint.strip()), token.isEmpty() ? null : token,
                    DefaultModel.cacheFolder().resolve("hub"), 5, Duration.ofSeconds(1), Duration.ofMinutes(1));
        } catch (URISyntaxException e) {
            throw new IllegalArgumentException("HF_ENDPOINT is '" + endpoint + "'; it must be an address such as " + HUGGING_FACE, e);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("HF_ENDPOINT and HF_TOKEN: " + e.getMessage(), e);
        }
    }

    public HubOptions withEndpoint(URI other) {
        return new HubOptions(other, token, folder, retries, pause, stallTimeout);
    }

    public HubOptions withToken(String other) {
        return new HubOptions(endpoint, other, folder, retries, pause, stallTimeout);
    }

    public HubOptions withFolder(Path other) {
        return new HubOptions(endpoint, token, other, retries, pause, stallTimeout);
    }

    public HubOptions withRetries(int count, Duration first) {
        return new HubOptions(endpoint, token, folder, count, first, stallTimeout);
    }

    public HubOptions withStallTimeout(Duration timeout) {
        return new HubOptions(endpoint, token, folder, retries, pause, timeout);
    }

    /** Without the token. */
    @Override
    public String toString() {
        return "HubOptions[endpoint=" + endpoint + ", token=" + (token == null ? "none" : "set") + ", folder=" + folder
                + ", retries=" + retries + ", pause=" + pause + ", stallTimeout=" + stallTimeout + "]";
    }
}
