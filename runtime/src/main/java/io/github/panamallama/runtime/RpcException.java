package io.github.panamallama.runtime;

/** An RPC server can't be used: it is not there, does not answer or is none; the message names it. */
public final class RpcException extends LlamaException {
    public RpcException(String message) {
        super(message);
    }

    RpcException(String message, Throwable cause) {
        super(message, cause);
    }
}
