//! MLU and sMLU instances, into which the card cannot be divided.

use crate::call::{Out, Text};
use crate::codes::Code;
use crate::library::library;
use crate::types::*;

/// `CNDEV_MLUINSTANCE_PROFILE_COUNT`.
const PROFILES: i32 = 9;

exports! {
    fn cndevGetMimMode(mode: Out<cndevMimMode_t>, device: i32) {
        let library = library()?;
        mode.fill(|_| library.card(device).map(|_| ()))
    }

    fn cndevGetSMLUMode(mode: Out<cndevSMLUMode_t>, device: i32) {
        let library = library()?;
        mode.fill(|_| library.card(device).map(|_| ()))
    }

    fn cndevGetAllMluInstanceInfo(count: Out<i32>, _instances: Out<cndevMluInstanceInfo_t>, device: i32) {
        let library = library()?;
        count.check()?;
        library.card(device)?;
        count.put(0)?;
        Err(Code::NotSupported)
    }

    fn cndevGetAllSMluInstanceInfo(count: Out<i32>, _instances: Out<cndevSMluInfo_t>, device: i32) {
        let library = library()?;
        count.check()?;
        library.card(device)?;
        count.put(0)?;
        Err(Code::NotSupported)
    }

    fn cndevGetMluInstanceProfileInfo(profile: Out<cndevMluInstanceProfileInfo_t>, number: i32, device: i32) {
        let library = library()?;
        profile.version()?;
        library.card(device)?;
        match number {
            0..PROFILES => Err(Code::NotSupported),
            _ => Err(Code::InvalidArgument),
        }
    }

    fn cndevGetSMluInstanceInfo(instance: Out<cndevSMluInfo_t>, _handle: i32) {
        library()?;
        instance.version()?;
        Err(Code::NotSupported)
    }

    fn cndevGetSMluProfileIdInfo(profiles: Out<cndevSMluProfileIdInfo_t>, device: i32) {
        let library = library()?;
        profiles.version()?;
        library.card(device)?;
        Err(Code::NotSupported)
    }

    fn cndevGetSMluProfileInfo(profile: Out<cndevSMluProfileInfo_t>, _number: i32, device: i32) {
        let library = library()?;
        profile.version()?;
        library.card(device)?;
        Err(Code::NotSupported)
    }

    fn cndevCreateSMluProfileInfo(set: Out<cndevSMluSet_t>, profile: Out<i32>, device: i32) {
        let library = library()?;
        set.version()?;
        profile.check()?;
        library.card(device)?;
        Err(Code::NotSupported)
    }

    fn cndevDestroySMluProfileInfo(_profile: i32, device: i32) {
        library()?.card(device)?;
        Err(Code::NotSupported)
    }

    fn cndevCreateSMluInstanceByProfileId(instance: Out<i32>, _profile: u32, device: i32, _name: Text) {
        let library = library()?;
        instance.check()?;
        library.card(device)?;
        Err(Code::NotSupported)
    }

    fn cndevDestroySMluInstanceByHandle(_instance: i32) {
        library()?;
        Err(Code::NotSupported)
    }

    fn cndevGetMluInstanceById(instance: Out<i32>, _number: i32, device: i32) {
        let library = library()?;
        instance.check()?;
        library.card(device)?;
        Err(Code::NotSupported)
    }

    fn cndevGetMaxMluInstanceCount(count: Out<i32>, _profile: i32, device: i32) {
        let library = library()?;
        count.check()?;
        library.card(device)?;
        Err(Code::NotSupported)
    }
}
