package io.github.panamallama.layers;

import io.github.panamallama.runtime.Tap;

/** Numbers as a tap would read them. */
record FakeReading(int position, float[] norms, float[] cosines) implements Tap.Reading {
    @Override
    public int token() {
        return 0;
    }

    @Override
    public int node() {
        return -1;
    }

    @Override
    public float norm(int block) {
        return norms[block + 1];
    }

    @Override
    public float difference(int block) {
        throw new UnsupportedOperationException();
    }

    @Override
    public float cosine(int block) {
        return cosines[block];
    }

    @Override
    public boolean has(int block) {
        return false;
    }

    @Override
    public void hidden(int block, float[] target) {
        throw new UnsupportedOperationException();
    }

    @Override
    public boolean has(String weight) {
        return false;
    }

    @Override
    public void input(String weight, float[] target) {
        throw new UnsupportedOperationException();
    }

    @Override
    public int expertCount(String weight) {
        return 0;
    }

    @Override
    public int[] experts(String weight) {
        throw new UnsupportedOperationException();
    }

    @Override
    public void input(String weight, int which, float[] target) {
        throw new UnsupportedOperationException();
    }
}
