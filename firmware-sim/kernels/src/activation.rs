//! Activation functions and their gradients.

use vmlu_ops::binary::Function as Gradient;
use vmlu_ops::unary::Function;

use super::math::Real;
use super::simd::multiversion;

#[inline(always)]
fn map<T: Copy>(x: &mut [T], f: impl Fn(T) -> T) {
    for v in x {
        *v = f(*v);
    }
}

#[inline(always)]
fn zip<T: Copy>(x: &mut [T], y: &[T], f: impl Fn(T, T) -> T) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = f(*x, *y);
    }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    // The exponential of a negative number does not overflow.
    let e = x.abs().neg().exp();
    let top = if x < T::default() { e } else { T::ONE };
    top.div(T::ONE.add(e))
}

/// `log(1 + eˣ)`.
#[inline(always)]
fn softplus<T: Real>(x: T) -> T {
    let zero = T::default();
    let positive = if x > zero { x } else { zero };
    // NaN by way of the exponential.
    positive.add(x.abs().neg().exp().log1p())
}

/// `tanh(log(1 + eˣ))`, without the logarithm.
#[inline(always)]
fn tanh_softplus<T: Real>(x: T) -> T {
    let limit = T::of(20.0);
    let e = (if x > limit { limit } else { x }).exp();
    let n = e.mul(e.add(T::of(2.0)));
    n.div(n.add(T::of(2.0)))
}

/// √(2/π)
const ROOT_2_PI: f64 = 0.797_884_560_802_865_4;

/// `(1 + erf(x/√2)) / 2`.
#[inline(always)]
fn normal<T: Real>(x: T) -> T {
    let e = x.mul(T::of(std::f64::consts::FRAC_1_SQRT_2)).erf();
    e.mul_add(T::of(0.5), T::of(0.5))
}

/// The argument of the hyperbolic tangent in gelu_tanh.
#[inline(always)]
fn gelu_inner<T: Real>(x: T) -> T {
    let c = x.mul(x).mul_add(T::of(0.044715), T::ONE);
    x.mul(T::of(ROOT_2_PI)).mul(c)
}

/// `x` between 0 and 6.
#[inline(always)]
fn six<T: Real>(x: T) -> T {
    let x = if x < T::default() { T::default() } else { x };
    if x > T::of(6.0) {
        T::of(6.0)
    } else {
        x
    }
}

#[inline(always)]
fn choose<T>(condition: bool, a: T, b: T) -> T {
    if condition {
        a
    } else {
        b
    }
}

multiversion! {
    /// `x = f(x)`.
    pub fn forward<T: Real>(function: Function, x: &mut [T], p: [f64; 3]) {
        let [alpha, beta, gamma] = p.map(T::of);
        let zero = T::default();
        match function {
            Function::Sigmoid => map(x, sigmoid),
            Function::Gelu => map(x, |v| v.mul(normal(v))),
            Function::GeluTanh => map(x, |v| {
                let t = gelu_inner(v).tanh();
                v.mul(T::of(0.5)).mul(T::ONE.add(t))
            }),
            Function::Silu => map(x, |v| v.mul(sigmoid(v))),
            Function::QuickGelu => map(x, |v| v.mul(sigmoid(v.mul(T::of(1.702))))),
            Function::Deg2Rad => map(x, |v| v.mul(T::of(std::f64::consts::PI / 180.0))),
            Function::Rad2Deg => map(x, |v| v.mul(T::of(180.0 / std::f64::consts::PI))),
            Function::Logit => {
                let (low, high) = (alpha, T::ONE.sub(alpha));
                let bounded = alpha > zero;
                map(x, |v| {
                    let c = choose(v < low, low, choose(v > high, high, v));
                    let v = choose(bounded, c, v);
                    v.div(T::ONE.sub(v)).log()
                });
            }
            Function::NanToNum => map(x, |v| {
                let r = choose(v == T::HIGHEST, beta, choose(v == T::LOWEST, gamma, v));
                choose(v.is_nan(), alpha, r)
            }),
            Function::LogSigmoid => map(x, |v| {
                let least = choose(v > zero, zero, v);
                least.sub(v.abs().neg().exp().log1p())
            }),
            Function::Softplus => map(x, |v| {
                let a = v.mul(alpha);
                choose(a > beta, v, softplus(a).div(alpha))
            }),
            Function::Elu => {
                let negative = alpha.mul(beta);
                map(x, |v| choose(v > zero, v.mul(beta), v.mul(gamma).expm1().mul(negative)));
            }
            Function::LeakyRelu => map(x, |v| choose(v > zero, v, v.mul(alpha))),
            Function::HardSigmoid => map(x, |v| six(v.add(T::of(3.0))).div(T::of(6.0))),
            Function::HardSwish => map(x, |v| v.mul(six(v.add(T::of(3.0)))).div(T::of(6.0))),
            Function::HardShrink => map(x, |v| choose(v.abs() <= alpha, zero, v)),
            Function::SoftShrink => map(x, |v| {
                let less = choose(v > zero, v.sub(alpha), v.add(alpha));
                choose(v.abs() <= alpha, zero, less)
            }),
            Function::TanhShrink => map(x, |v| v.sub(v.tanh())),
            Function::Softsign => map(x, |v| v.div(T::ONE.add(v.abs()))),
            Function::Mish => map(x, |v| v.mul(tanh_softplus(v))),
            Function::Threshold => map(x, |v| choose(v <= alpha, beta, v)),
            other => unreachable!("{other:?} is no activation"),
        }
    }

    /// `g = g · f'(x)`; y is the input of the activation or, where the function says so, its result.
    pub fn backward<T: Real>(function: Gradient, g: &mut [T], y: &[T], p: [f64; 3]) {
        let [alpha, beta, gamma] = p.map(T::of);
        let zero = T::default();
        let one = T::ONE;
        match function {
            Gradient::SigmoidBackward => zip(g, y, |g, y| g.mul(one.sub(y)).mul(y)),
            Gradient::TanhBackward => zip(g, y, |g, y| g.mul(one.sub(y.mul(y)))),
            Gradient::GeluBackward => zip(g, y, |g, x| {
                let density = x.mul(x).mul(T::of(-0.5)).exp().mul(T::of(ROOT_2_PI / 2.0));
                g.mul(x.mul_add(density, normal(x)))
            }),
            Gradient::GeluTanhBackward => zip(g, y, |g, x| {
                let t = gelu_inner(x).tanh();
                let slope = x.mul(x).mul_add(T::of(3.0 * 0.044715), one).mul(T::of(ROOT_2_PI));
                let bend = x.mul(one.sub(t.mul(t))).mul(slope);
                g.mul(T::of(0.5).mul(one.add(t).add(bend)))
            }),
            Gradient::SiluBackward => zip(g, y, |g, x| {
                let s = sigmoid(x);
                g.mul(s).mul(one.add(x.mul(one.sub(s))))
            }),
            Gradient::QuickGeluBackward => zip(g, y, |g, x| {
                let z = x.mul(T::of(1.702));
                let s = sigmoid(z);
                g.mul(s).mul(one.add(z.mul(one.sub(s))))
            }),
            Gradient::EluBackward => {
                let negative = alpha.mul(beta).mul(gamma);
                zip(g, y, |g, x| g.mul(choose(x > zero, beta, x.mul(gamma).exp().mul(negative))));
            }
            Gradient::EluBackwardResult => {
                let negative = alpha.mul(beta);
                zip(g, y, |g, y| g.mul(choose(y > zero, beta, y.add(negative).mul(gamma))));
            }
            Gradient::LeakyReluBackward => zip(g, y, |g, x| choose(x > zero, g, g.mul(alpha))),
            Gradient::HardTanhBackward => zip(g, y, |g, x| choose(x <= alpha || x >= beta, zero, g)),
            Gradient::ClampBackward => zip(g, y, |g, x| choose(x >= alpha && x <= beta, g, zero)),
            Gradient::HardSigmoidBackward => zip(g, y, |g, x| {
                choose(x > T::of(-3.0) && x < T::of(3.0), g.div(T::of(6.0)), zero)
            }),
            Gradient::HardSwishBackward => zip(g, y, |g, x| {
                let inner = g.mul(x.div(T::of(3.0)).add(T::of(0.5)));
                choose(x <= T::of(-3.0), zero, choose(x >= T::of(3.0), g, inner))
            }),
            Gradient::SoftplusBackward => zip(g, y, |g, x| {
                let z = x.mul(alpha);
                choose(z > beta, g, g.mul(sigmoid(z)))
            }),
            Gradient::LogSigmoidBackward => zip(g, y, |g, x| g.mul(sigmoid(x.neg()))),
            Gradient::MishBackward => zip(g, y, |g, x| {
                let t = tanh_softplus(x);
                let s = sigmoid(x);
                g.mul(t.add(x.mul(s).mul(one.sub(t.mul(t)))))
            }),
            Gradient::ShrinkBackward => zip(g, y, |g, x| choose(x.abs() <= alpha, zero, g)),
            Gradient::SoftsignBackward => zip(g, y, |g, x| {
                let d = one.add(x.abs());
                g.div(d.mul(d))
            }),
            Gradient::ThresholdBackward => zip(g, y, |g, x| choose(x <= alpha, zero, g)),
            Gradient::TanhShrinkBackward => zip(g, y, |g, x| {
                let t = x.tanh();
                g.mul(t.mul(t))
            }),
            Gradient::LogitBackward => zip(g, y, |g, x| {
                let d = g.div(x.mul(one.sub(x)));
                let inside = x >= alpha && x <= one.sub(alpha);
                // Without a bound, the gradient outside 0 … 1 is NaN, as the function is.
                choose(inside, d, choose(alpha > zero, zero, T::of(f64::NAN)))
            }),
            other => unreachable!("{other:?} is no gradient"),
        }
    }
}
