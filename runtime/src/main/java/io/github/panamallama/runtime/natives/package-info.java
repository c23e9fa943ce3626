/**
 * Brings the native libraries into the process and turns their failures and log into Java's. What the functions mean belongs to the
 * classes that call them.
 */
package io.github.panamallama.runtime.natives;
