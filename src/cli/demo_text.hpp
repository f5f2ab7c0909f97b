// The text whose tokens `penstock demo` saves and restores when it is given none.
#pragma once

#include <string_view>

namespace penstock::cli {

inline constexpr std::string_view kDemoText = R"(
High in the valley the water stands behind the dam and waits. It was not easy to bring it here: it
fell as snow, it lay through the winter, it melted, it ran through a hundred streams, and each of
them gave it a little of its height. What stands behind the dam is work that has been done already,
and the whole art of the engineer who comes after is not to lose it.

A river would lose it. It would take the same water down the same mountain over stones and bends,
and at the bottom there would be warm stones and no power. So the engineer lays a pipe from the
intake to the turbine, steep and straight, closed on all sides, wide enough not to hold the water
back and strong enough to hold it in. That pipe is the penstock. It adds nothing to the water. All
that it does is to bring down what is above, whole, and as fast as the height allows.

A language model that reads a long text does work of this kind. For each token, in each layer, it
computes a key and a value, and everything that it says later looks back at them. They are costly
to compute and cheap to keep, but the memory of the machine that computes them is small, and so
they are thrown away as soon as the next reader comes; and when the first one returns with the same
text and one more question, the snow has to fall all over again.

There is a reservoir in every machine: a drive, a hundred times larger than the memory and as fast
as a river in spring. What is missing is the pipe. It must be closed, for a drop that gets in from
elsewhere spoils the whole: what comes out must be what went in, for this text and no other, or
nothing at all. It must be straight, for every bend is a copy, and every copy costs height. And it
must never stand in the way: if the pipe is blocked the water runs down the river as it always did,
and the only harm is that it takes longer.

The keeper of the dam walks along the crest in the evening. He looks at the gauge, he looks at the
gate, he listens. If everything is well there is nothing to hear at the top, and far down in the
valley the lights are on.
)";

}  // namespace penstock::cli
