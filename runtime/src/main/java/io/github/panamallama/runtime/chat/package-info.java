/**
 * Prompts and answers as text: chat messages, the model's own Jinja template, and the way back from an answer to content, reasoning and
 * tool calls. Nothing here evaluates a model; native code is asked only for upstream's built-in templates.
 */
package io.github.panamallama.runtime.chat;
