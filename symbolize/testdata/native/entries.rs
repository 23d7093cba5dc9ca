use std::collections::HashMap;

mod shapes {
    pub struct Pair<T> {
        pub v: T,
    }

    impl<T: Copy + std::ops::Add<Output = T>> Pair<T> {
        #[inline(never)]
        pub fn twice(&self) -> T {
            add(self.v, self.v)
        }
    }

    #[inline]
    fn add<T: std::ops::Add<Output = T>>(a: T, b: T) -> T {
        a + b
    }
}

fn main() {
    let mut m: HashMap<String, u64> = HashMap::new();
    for a in std::env::args() {
        let n = a.len() as u64;
        *m.entry(a).or_insert(0) += shapes::Pair { v: n }.twice();
    }
    println!("{:?}", m);
}
