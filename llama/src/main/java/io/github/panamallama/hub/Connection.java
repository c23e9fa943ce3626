package io.github.panamallama.hub;

import io.github.panamallama.hub.HubException.Reason;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.UnknownHostException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.channels.UnresolvedAddressException;
import java.time.Duration;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Requests for one model. Redirects are followed here and not by the JDK's client: the token goes to the endpoint's own host, and as soon
 * as a redirect leads elsewhere, no further.
 */
final class Connection implements AutoCloseable {
    /** How often whoever waits looks whether it should go on. */
    static final Duration GLANCE = Duration.ofMillis(100);

    private static final int MOST_REDIRECTS = 10;
    private static final int TOO_MANY_REQUESTS = 429;
    private static final Set<Integer> REDIRECTS = Set.of(301, 302, 303, 307, 308);

    private final HttpClient client;
    private final HubOptions options;
    private final HubModel model;
    private final PullListener listener;

    /** An answer with its body still to be read, and the address that it came from. {@code linked*} are null where the hub says nothing. */
    record Answer(HttpResponse<InputStream> response, String linkedEtag, String linkedSize) {
        int status() {
            return response.statusCode();
        }

        String header(String name) {
            return response.headers().firstValue(name).orElse(null);
        }
    }

    /** The connection failed in a way that another try may mend. */
    static final class BrokenException extends Exception {
        private static final long serialVersionUID = 1;

        BrokenException(String message, Throwable cause) {
            super(message, cause);
        }
    }

    Connection(HubOptions options, HubModel model, PullListener listener) {
        this.options = options;
        this.model = model;
        this.listener = listener;
        client = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NEVER).connectTimeout(Duration.ofSeconds(30)).build();
    }

    /** An address below the endpoint; the path is encoded here, the query must be already. */
    URI address(String path, String query) {
        try {
            var encoded = new URI(null, null, path, null).toASCIIString();
            return URI.create(options.endpoint().toString().replaceAll("/$", "") + encoded + (query == null ? "" : "?" + query));
        } catch (URISyntaxException e) {
            throw new AssertionError(path, e);
        }
    }

    boolean isOwn(URI uri) {
        return origin(uri).equals(origin(options.endpoint()));
    }

    private static String origin(URI uri) {
        int port = uri.getPort() >= 0 ? uri.getPort() : "https".equals(uri.getScheme()) ? 443 : 80;
        return uri.getScheme() + "://" + uri.getHost() + ":" + port;
    }

    /** The answer at the end of all redirects: 200, 206 or 416. Everything else is an exception. */
    Answer get(URI address, Map<String, String> headers) throws BrokenException {
        var seen = new HashSet<URI>();
        boolean own = true;
        String etag = null;
        String size = null;
        for (var uri = address;;) {
            if (!seen.add(uri) || seen.size() > MOST_REDIRECTS) {
                throw new HubException(Reason.BAD_ANSWER, address + " is redirected " + (seen.size() > MOST_REDIRECTS
                        ? "more than " + MOST_REDIRECTS + " times" : "in a circle") + "; check HF_ENDPOINT");
            }
            own &= isOwn(uri);
            var response = send(uri, headers, own);
            if (own) {
                etag = response.headers().firstValue("X-Linked-Etag").orElse(etag);
                size = response.headers().firstValue("X-Linked-Size").orElse(size);
            }
            if (!REDIRECTS.contains(response.statusCode())) {
                check(uri, response, own);
                return new Answer(response, etag, size);
            }
            close(response.body());
            uri = redirected(uri, response);
        }
    }

    private HttpResponse<InputStream> send(URI uri, Map<String, String> headers, boolean own) throws BrokenException {
        var request = HttpRequest.newBuilder(uri).GET().header("User-Agent", "panama-llama").header("Accept-Encoding", "identity");
        headers.forEach(request::header);
        if (own && options.token() != null) {
            request.header("Authorization", "Bearer " + options.token());
        }
        var answer = client.sendAsync(request.build(), BodyHandlers.ofInputStream());
        long start = System.nanoTime();
        try {
            while (true) {
                try {
                    return answer.get(GLANCE.toMillis(), TimeUnit.MILLISECONDS);
                } catch (TimeoutException e) {
                    if (System.nanoTime() - start > options.stallTimeout().toNanos()) {
                        throw new BrokenException(uri.getHost() + " does not answer", e);
                    }
                    cancelled();
                }
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new HubException(Reason.CANCELLED, "interrupted while " + model + " was pulled", e);
        } catch (ExecutionException e) {
            throw new BrokenException("no connection to " + uri.getHost() + ": " + text(e.getCause()), e.getCause());
        } finally {
            answer.cancel(true);    // nothing where it is done
        }
    }

    /** The body of an answer, at most so many bytes of it. */
    byte[] read(Answer answer, int most) throws BrokenException {
        var all = new ByteArrayOutputStream();
        var buffer = new byte[1 << 13];
        try (var body = new WatchedBody(answer.response().body(), options.stallTimeout(), listener)) {
            for (int count = body.read(buffer); count >= 0 && all.size() < most; count = body.read(buffer)) {
                all.write(buffer, 0, Math.min(count, most - all.size()));
            }
        }
        return all.toByteArray();
    }

    /** The client leaves many of its exceptions without a message. */
    static String text(Throwable e) {
        for (var cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof UnresolvedAddressException || cause instanceof UnknownHostException) {
                return "there is no host of that name, or no network";
            }
        }
        return e instanceof ConnectException && e.getMessage() == null ? "nothing answers there"
                : e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    }

    void cancelled() {
        if (listener.cancelled()) {
            throw new HubException(Reason.CANCELLED, "the pull of " + model + " was cancelled; what has arrived is kept, "
                    + "and the next one goes on there");
        }
    }

    private URI redirected(URI from, HttpResponse<?> response) {
        var location = response.headers().firstValue("Location").orElse("");
        URI to;
        try {
            to = from.resolve(new URI(location));
        } catch (URISyntaxException e) {
            throw new HubException(Reason.BAD_ANSWER, from + " is redirected to '" + Names.printable(location) + "', which is no address",
                    e);
        }
        boolean web = "https".equals(to.getScheme()) || "http".equals(to.getScheme());
        if (location.isEmpty() || !web || to.getHost() == null || "https".equals(from.getScheme()) && "http".equals(to.getScheme())) {
            throw new HubException(Reason.BAD_ANSWER, from + " is redirected to '" + Names.printable(location)
                    + "'; only other https addresses are followed");
        }
        return to;
    }

    private void check(URI uri, HttpResponse<InputStream> response, boolean own) throws BrokenException {
        int status = response.statusCode();
        if (status == 200 || status == 206 || status == 416) {
            return;
        }
        close(response.body());
        var page = options.endpoint() + "/" + model.repository();
        if (status == TOO_MANY_REQUESTS || status >= 500) {
            throw new BrokenException(uri.getHost() + " answers with status " + status
                    + (status == TOO_MANY_REQUESTS ? ": too many requests; wait a little, or set HF_TOKEN" : ""), null);
        }
        if (!own) {
            throw new HubException(Reason.BAD_ANSWER, uri.getHost() + ", which the hub names for the file, answers with status " + status);
        }
        throw switch (status) {
            case 401 -> options.token() == null
                    ? new HubException(Reason.NOT_FOUND, "no model " + model.repository() + " that everybody may read at "
                            + options.endpoint() + " (401): check the name, or set HF_TOKEN if it is private")
                    : new HubException(Reason.DENIED, "the token in HF_TOKEN is not accepted by " + options.endpoint()
                            + " (401); make a new one");
            case 403 -> new HubException(Reason.DENIED, model.repository() + " may not be read " + (options.token() == null
                    ? "without a token (403): accept its terms at " + page + " and set HF_TOKEN"
                    : "with the token in HF_TOKEN (403): accept the terms at " + page + ", or give the token the right to read it"));
            case 404 -> uri.getPath().contains("/resolve/")
                    ? new HubException(Reason.NOT_FOUND, model.repository() + " lists a file that is not there (404): " + uri.getPath())
                    : new HubException(Reason.NOT_FOUND, "no model " + model.repository() + " at " + options.endpoint() + " (404)");
            default -> new HubException(Reason.BAD_ANSWER, options.endpoint() + " answers with status " + status + " to "
                    + uri.getPath());
        };
    }

    static void close(InputStream body) {
        try {
            body.close();
        } catch (IOException e) {
            // nothing more is wanted of it
        }
    }

    @Override
    public void close() {
        client.shutdownNow();
    }
}
