package io.github.panamallama;

/**
 * Something can't be done by a worker process: it is code, or it lives in the memory of this process. Thrown before anything is sent; the
 * worker goes on. {@link Llama#load} loads the model where it can be done.
 */
public final class IsolationException extends IllegalArgumentException {
    IsolationException(String message) {
        super(message);
    }
}
